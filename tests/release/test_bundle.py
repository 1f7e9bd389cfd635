"""Model signatures, made without reading the files again, and checked by the library's command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shiftreg.errors import IntegrityError, InvalidInputError, MissingExtraError
from shiftreg.keys import PASSPHRASE_VARIABLE, load_signing_key
from shiftreg.release import check_bundle, file_digests, sidecar_files, write_bundle


def model_signing(target: Path, signature: Path, public: Path) -> subprocess.CompletedProcess[str]:
    arguments = ["verify", "key", str(target), "--signature", str(signature)]
    return subprocess.run(
        [sys.executable, "-m", "model_signing", *arguments, "--public_key", str(public)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.ckpt"
    path.write_bytes(b"weights" * 1000)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    for name in ("unet/weights.safetensors", "vae/weights.safetensors", "model_index.json"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    return path


def sign(target: Path, pair: Any) -> Path:
    signature = sidecar_files(target)["signature"]
    write_bundle(target, file_digests(target), signature, pair.signing)
    return signature


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_command_of_model_signing_confirms_a_signature(
    request: pytest.FixtureRequest, kind: str, pair: Any, other_pair: Any
) -> None:
    target = request.getfixturevalue(kind)
    signature = sign(target, pair)
    check_bundle(target, signature, pair.known)
    assert model_signing(target, signature, pair.public).returncode == 0
    assert model_signing(target, signature, other_pair.public).returncode != 0


def test_what_the_command_signs_is_confirmed_here(file: Path, pair: Any) -> None:
    signature = sidecar_files(file)["signature"]
    command = [sys.executable, "-m", "model_signing", "sign", "key", str(file)]
    command += ["--signature", str(signature), "--private_key", str(pair.private)]
    subprocess.run(command, check=True, capture_output=True)
    check_bundle(file, signature, pair.known)


def test_a_changed_file_is_named(folder: Path, pair: Any) -> None:
    signature = sign(folder, pair)
    (folder / "vae" / "weights.safetensors").write_text("others")
    with pytest.raises(IntegrityError, match=r"not those that were signed: .*vae/w") as caught:
        check_bundle(folder, signature, pair.known)
    assert "Digest(" not in str(caught.value)


def test_an_added_and_a_missing_file_are_named(folder: Path, pair: Any) -> None:
    signature = sign(folder, pair)
    (folder / "model_index.json").rename(folder / "hidden.json")
    with pytest.raises(IntegrityError, match=r"hidden\.json.*model_index\.json"):
        check_bundle(folder, signature, pair.known)


def test_the_signature_of_another_file_does_not_hold(file: Path, tmp_path: Path, pair: Any) -> None:
    other = tmp_path / "other.ckpt"
    other.write_text("other weights")
    with pytest.raises(IntegrityError, match="not those that were signed"):
        check_bundle(file, sign(other, pair), pair.known)


def test_another_key_does_not_confirm(file: Path, pair: Any, other_pair: Any) -> None:
    with pytest.raises(IntegrityError, match="another key"):
        check_bundle(file, sign(file, pair), other_pair.known)


def test_a_changed_signature_does_not_hold(file: Path, pair: Any) -> None:
    signature = sign(file, pair)
    text = signature.read_text()
    start = text.index('"sig":"') + 30
    swapped = text[start].translate(str.maketrans("AB", "BA")) if text[start] in "AB" else "A"
    signature.write_text(text[:start] + swapped + text[start + 1 :])
    with pytest.raises(IntegrityError, match="changed"):
        check_bundle(file, signature, pair.known)


def test_every_truncation_is_refused(file: Path, pair: Any) -> None:
    signature = sign(file, pair)
    content = signature.read_bytes()
    for length in range(0, len(content), 37):
        signature.write_bytes(content[:length])
        with pytest.raises(IntegrityError):
            check_bundle(file, signature, pair.known)


@pytest.mark.parametrize("content", [b"[]", b"{}", b"null", b"1", b"\xff"])
def test_what_is_no_bundle_is_refused(file: Path, pair: Any, content: bytes) -> None:
    sidecar_files(file)["signature"].write_bytes(content)
    with pytest.raises(IntegrityError):
        check_bundle(file, sidecar_files(file)["signature"], pair.known)


def test_an_encrypted_key_signs_with_its_passphrase(
    file: Path, tmp_path: Path, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encrypted, known = tmp_path / "encrypted.pem", pair.known
    command = ["openssl", "pkey", "-in", str(pair.private), "-aes256", "-passout", "pass:sesame"]
    subprocess.run([*command, "-out", str(encrypted)], check=True, capture_output=True)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "sesame")
    signature = sidecar_files(file)["signature"]
    write_bundle(file, file_digests(file), signature, load_signing_key(encrypted))
    check_bundle(file, signature, known)


def test_an_edwards_key_is_refused_with_a_remedy(file: Path, edwards_pair: Any) -> None:
    with pytest.raises(InvalidInputError, match="openssl genpkey -algorithm EC"):
        sign(file, edwards_pair)
    assert not sidecar_files(file)["signature"].exists()


def test_a_missing_library_names_the_extra(
    file: Path, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model_signing", "model_signing.signing"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"shiftreg\[release\]"):
        sign(file, pair)
