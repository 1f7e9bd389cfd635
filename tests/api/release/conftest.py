"""Keys to sign with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key, PEM; the public one lies beside it."""
    key = tmp_path_factory.mktemp("key") / "signing.pem"
    options = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    for command in (
        ["genpkey", *options, "-out", str(key)],
        ["pkey", "-in", str(key), "-pubout", "-out", str(key.with_suffix(".pub"))],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return key
