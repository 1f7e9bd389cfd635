"""OpenSSF model signatures: what anybody checks with the ``model_signing`` command."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from shiftreg.errors import IntegrityError, InvalidInputError
from shiftreg.keys import PublicKey, SigningKey, passphrase
from shiftreg.release.files import SIGNATURES, require

if TYPE_CHECKING:
    from model_signing import hashing

SINGLE_FILE = "."  # what the library calls the one file of a model that is no folder


def write_bundle(target: Path, digests: Mapping[str, str], path: Path, key: SigningKey) -> None:
    """Signs a model, whose files are not read again.

    Args:
        digests: SHA-256 of its files; see :func:`~shiftreg.release.files.file_digests`.

    Raises:
        MissingExtraError: model-signing is not installed.
        InvalidInputError: The key is not on an elliptic curve.
    """
    require(*SIGNATURES)
    require_curve(key)
    from model_signing import signing

    # The library says str, and hands it to one that takes bytes.
    phrase: Any = passphrase()
    config = signing.Config().use_elliptic_key_signer(private_key=key.path, password=phrase)
    config.set_hashing_config(_known(target, digests)).sign(target, path)


def check_bundle(
    target: Path, path: Path, key: PublicKey, digests: Mapping[str, str] | None = None
) -> None:
    """Checks that a key signed a model, and that all its files are as they were then.

    Args:
        digests: SHA-256 of the files, where they were read already.

    Raises:
        MissingExtraError: model-signing is not installed.
        IntegrityError: They are not, the key did not sign, or the bundle is damaged; the message
            ends a sentence that begins with the bundle's name.
    """
    require(*SIGNATURES)
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    if not key.is_elliptic_curve:
        raise IntegrityError("it cannot be of this key: models are signed with elliptic curve keys")
    with tempfile.TemporaryDirectory() as folder:
        public = Path(folder) / "key.pub"
        public.write_bytes(key.to_pem())
        config = verifying.Config().use_elliptic_key_verifier(public_key=public)
        if digests is not None:
            config.set_hashing_config(_known(target, digests))
        try:
            # The library prints where a bundle is of an older kind.
            with contextlib.redirect_stdout(io.StringIO()):
                config.verify(target, path)
        except InvalidSignature as error:
            raise IntegrityError("it was changed after it was signed") from error
        except ValueError as error:
            raise IntegrityError(_in_our_words(error, key)) from error
        except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise IntegrityError("it is cut off or damaged: no bundle with a signature") from error


def _known(target: Path, digests: Mapping[str, str]) -> hashing.Config:
    """Digests that were computed when the files were written or read, for the library."""
    from model_signing import hashing, manifest
    from model_signing._hashing.hashing import Digest  # manifest's items take it

    names = dict(digests) if target.is_dir() else {SINGLE_FILE: next(iter(digests.values()))}

    class Known(hashing.Config):
        def hash(
            self, model_path: object, *, files_to_hash: Iterable[Any] | None = None
        ) -> manifest.Manifest:
            kind = manifest.SerializationType.from_args(
                {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
            )
            items = [
                manifest.FileManifestItem(
                    path=PurePosixPath(name), digest=Digest("sha256", bytes.fromhex(digest))
                )
                for name, digest in names.items()
            ]
            return manifest.Manifest(target.name, items, kind)

    return Known()  # type: ignore[no-untyped-call]  # a constructor of theirs


def require_curve(key: SigningKey) -> None:
    """Refuses early a key that models cannot be signed with.

    Raises:
        InvalidInputError: The key is not on an elliptic curve.
    """
    if not key.public.is_elliptic_curve:
        raise InvalidInputError(
            f"Models are signed with elliptic curve keys, and '{key.path}' is an Ed25519 key. Make "
            "one: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out FILE"
        )


def _in_our_words(error: ValueError, key: PublicKey) -> str:
    text = " ".join(str(error).split())
    if text.startswith("Key mismatch"):
        return f"it is signed by another key than {key.fingerprint[:12]}"
    if text.startswith("Signature mismatch"):
        found = text.removeprefix("Signature mismatch: ").strip("[]")
        found = re.sub(r": Expected 'Digest.*?\)', Actual 'Digest.*?\)'", "", found)
        return f"the files are not those that were signed: {found[:400]}"
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) or "validation error" in text:
        return "it is cut off or damaged: no bundle with a signature"
    return f"it cannot be trusted: {text[:200]}"
