"""Keys as openssl makes them."""

from __future__ import annotations

import hashlib
import stat
import subprocess
from pathlib import Path

import pytest

from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.keys import PASSPHRASE_VARIABLE, load_public_key, load_signing_key, own_secret


def openssl(*arguments: str | Path) -> bytes:
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True).stdout


def make(folder: Path, *options: str) -> tuple[Path, Path]:
    """A new private key, and its public one."""
    private, public = folder / "key.pem", folder / "key.pub"
    openssl("genpkey", *options, "-out", private)
    given = ["-passin", "pass:sesame"] if "-aes256" in options else []
    openssl("pkey", "-in", private, *given, "-pubout", "-out", public)
    return private, public


def curve(name: str) -> tuple[str, ...]:
    return ("-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{name}")


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)


@pytest.mark.parametrize(
    "options", [curve("P-256"), curve("P-384"), curve("P-521"), ("-algorithm", "ED25519")]
)
def test_what_a_key_signs_its_public_key_confirms_and_no_other(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    private, public = make(tmp_path, *options)
    key, known = load_signing_key(private), load_public_key(public)
    assert key.public == known
    assert known.to_pem() == public.read_bytes()
    signature = key.sign(b"message")
    assert known.confirms(signature, b"message")
    assert not known.confirms(signature, b"massage")
    assert not known.confirms(b"", b"message")
    (tmp_path / "other").mkdir()
    other = load_public_key(make(tmp_path / "other", *options)[1])
    assert not other.confirms(signature, b"message")


def test_a_fingerprint_is_what_openssl_says(tmp_path: Path) -> None:
    _, public = make(tmp_path, *curve("P-256"))
    der = openssl("pkey", "-pubin", "-in", public, "-outform", "DER")
    assert load_public_key(public).fingerprint == hashlib.sha256(der).hexdigest()


def test_openssl_confirms_a_signature(tmp_path: Path) -> None:
    private, public = make(tmp_path, *curve("P-256"))
    (tmp_path / "signature").write_bytes(load_signing_key(private).sign(b"message"))
    (tmp_path / "message").write_bytes(b"message")
    openssl(
        *("dgst", "-sha256", "-verify", public, "-signature", tmp_path / "signature"),
        tmp_path / "message",
    )


def test_an_encrypted_key_needs_its_passphrase_and_never_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = make(tmp_path, *curve("P-256"), "-aes256", "-pass", "pass:sesame")
    with pytest.raises(InvalidInputError, match=f"encrypted: set {PASSPHRASE_VARIABLE}"):
        load_signing_key(private)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "simsim")
    with pytest.raises(InvalidInputError, match="is not its own") as caught:
        load_signing_key(private)
    assert "simsim" not in str(caught.value)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "sesame")
    key = load_signing_key(private)
    assert key.public == load_public_key(public)
    assert "sesame" not in repr(key)


def test_what_is_no_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no key"):
        load_signing_key(tmp_path / "absent")
    text = tmp_path / "text"
    text.write_text("-----BEGIN PRIVATE KEY-----\nnonsense\n")
    with pytest.raises(InvalidInputError, match="openssl genpkey"):
        load_signing_key(text)
    with pytest.raises(InvalidInputError, match="openssl pkey"):
        load_public_key(text)


@pytest.mark.parametrize("options", [("-algorithm", "RSA"), curve("secp256k1")])
def test_keys_of_other_kinds_are_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    private, public = make(tmp_path, *options)
    with pytest.raises(InvalidInputError, match="Ed25519 and elliptic curve"):
        load_signing_key(private)
    with pytest.raises(InvalidInputError, match="Ed25519 and elliptic curve"):
        load_public_key(public)


def test_the_own_secret_is_made_once_and_read_by_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    secret = own_secret()
    assert secret is not None
    assert len(secret) == 32
    assert own_secret() == secret
    file = tmp_path / "config" / "shiftreg" / "secret"
    assert [stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()] == [0o600]
    file.write_bytes(b"")
    assert own_secret() is None, "an empty secret is none"
