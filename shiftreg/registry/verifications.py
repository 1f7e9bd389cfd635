"""Verifications: a run each, and a mark on every export of the verified composition."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shiftreg.canonical import canonical_json
from shiftreg.concepts import slug
from shiftreg.registry.artifacts import log_file
from shiftreg.registry.bases import find_experiment
from shiftreg.registry.compositions import list_compositions
from shiftreg.registry.models import COMPOSITIONS
from shiftreg.registry.store import Store, translates_errors
from shiftreg.registry.training import log_metrics


@translates_errors
def record_verification(
    store: Store,
    base: str,
    digest: str,
    report: Path,
    *,
    passed: bool,
    metrics: Mapping[str, float],
    export_digest: str = "",
) -> str:
    """Keeps a report; see :meth:`Registry.record_verification`."""
    experiment = find_experiment(store, base)
    outcome = "passed" if passed else "failed"
    run = store.client.create_run(
        experiment.experiment_id,
        run_name=f"verify {digest[:12]}",
        tags={
            "shiftreg.kind": "verification",
            "shiftreg.digest": digest,
            "shiftreg.export_digest": export_digest,
            "shiftreg.passed": str(passed).lower(),
            "mlflow.note.content": f"Verification of composition `{digest[:12]}`: {outcome}.",
        },
    )
    run_id = run.info.run_id
    try:
        log_metrics(store, run_id, metrics)
        log_file(store, run_id, report, f"verification/{report.name}")
    except BaseException:
        store.client.delete_run(run_id)
        raise
    store.client.set_terminated(run_id)
    if export_digest:
        mark = canonical_json({"passed": passed, "run_id": run_id, "report": report.name})
        for version in list_compositions(store, base):
            if version.export_digest == export_digest:
                store.client.set_model_version_tag(
                    f"{slug(base)}.{COMPOSITIONS}",
                    str(version.version),
                    "shiftreg.verification",
                    mark,
                )
    return str(run_id)
