"""Who a server takes its user for."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from shiftreg.registry.store import Store, translates_errors

USERNAME = "MLFLOW_TRACKING_USERNAME"
QUESTION = "/api/2.0/mlflow/experiments/search"


@translates_errors
def account(store: Store) -> str | None:
    """The name that a server checks a password for; None if it checks none.

    Without authentication the variable of that name is a claim of anybody's, and so no answer.
    """
    name = os.environ.get(USERNAME)
    if not name or urlsplit(store.uri).scheme not in ("http", "https"):
        return None
    from mlflow.utils import rest_utils
    from mlflow.utils.credentials import get_default_host_creds

    # The certificates that MLflow would use, without the password.
    own = get_default_host_creds(store.uri)  # type: ignore[no-untyped-call]  # MLflow's
    nobody = rest_utils.MlflowHostCreds(  # type: ignore[no-untyped-call]  # MLflow's
        store.uri,
        ignore_tls_verification=own.ignore_tls_verification,
        server_cert_path=own.server_cert_path,
        client_cert_path=own.client_cert_path,
    )
    answer = rest_utils.http_request(  # type: ignore[no-untyped-call]  # MLflow's
        nobody, QUESTION, "POST", json={"max_results": 1}, raise_on_status=False
    )
    return name if answer.status_code in (401, 403) else None
