"""Keys as openssl makes them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from shiftreg.keys import PASSPHRASE_VARIABLE, PublicKey, SigningKey, load_signing_key


@dataclass(frozen=True)
class Pair:
    """A private key and its public one, as files and as values."""

    private: Path
    public: Path

    @property
    def signing(self) -> SigningKey:
        return load_signing_key(self.private)

    @property
    def known(self) -> PublicKey:
        return self.signing.public


def make_pair(folder: Path, name: str, *options: str) -> Pair:
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.pub")
    options = options or ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    for command in (
        ["genpkey", *options, "-out", str(pair.private)],
        ["pkey", "-in", str(pair.private), "-pubout", "-out", str(pair.public)],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return pair


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Our key."""
    return make_pair(tmp_path_factory.mktemp("keys"), "ours")


@pytest.fixture(scope="session")
def other_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Somebody else's key."""
    return make_pair(tmp_path_factory.mktemp("keys"), "theirs")


@pytest.fixture(scope="session")
def edwards_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """An Ed25519 key."""
    return make_pair(tmp_path_factory.mktemp("keys"), "edwards", "-algorithm", "ED25519")
