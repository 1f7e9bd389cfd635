"""Where the files of a release lie, and the digests of what was released."""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path

from shiftreg.checkpoints import card_path_of
from shiftreg.errors import MissingExtraError, NotFoundError, StorageError

# An OpenSSF model signature, an in-toto attestation, a CycloneDX bill of materials.
ENDINGS = {"signature": ".sig", "attestation": ".intoto.jsonl", "bill": ".cdx.json"}


# What each needs: a module, and what to say where that cannot be imported.
BILLS = "cyclonedx", "A bill of materials needs cyclonedx-python-lib, which is not installed."
SIGNATURES = (
    "model_signing.signing",
    "Signing models needs model-signing, and it cannot be used: {error}.",
)


def require(module: str, problem: str) -> None:
    """Refuses early what cannot be written, signed or checked.

    Raises:
        MissingExtraError: A library is not installed, or what it needs.
    """
    try:
        import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{problem.format(error=error)} Install it: pip install 'shiftreg[release]'"
        ) from error


def sidecar_files(target: Path) -> dict[str, Path]:
    """What may lie beside a release and tells of it, by the word that the audit trail has for each.

    The recipe is not among them: the registry itself knows its digest.
    """
    files = {word: target.with_name(target.name + ending) for word, ending in ENDINGS.items()}
    return {"card": card_path_of(target), **files}


def sidecar_digests(target: Path) -> dict[str, str]:
    """SHA-256 of those that are there."""
    files = {word: path for word, path in sidecar_files(target).items() if path.is_file()}
    return {word: _digest(path) for word, path in files.items()}


def file_digests(target: Path) -> dict[str, str]:
    """SHA-256 of every file of a release, hidden ones too.

    Returns:
        The path within a folder (with "/"), or the name of a single file -> SHA-256.

    Raises:
        NotFoundError: There is no such file or folder.
        StorageError: A file cannot be read.
    """
    if not target.exists():
        raise NotFoundError(f"There is no file '{target}'. Check the path.")
    if not target.is_dir():
        return {target.name: _digest(target)}
    files = sorted(path for path in target.rglob("*") if not path.is_dir())
    return {path.relative_to(target).as_posix(): _digest(path) for path in files}


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StorageError(f"'{path}' could not be read: {error.strerror or error}.") from error
