"""Failures of the disk as errors of this package, and the digests that files are known by."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from shiftreg.errors import (
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    ShiftregError,
    StorageError,
)

REMEDIES = {
    errno.ENOSPC: "Free some space, or choose another target.",
    errno.EDQUOT: "Free some space, or choose another target.",
    errno.EROFS: "Choose a folder that you may write to.",
    errno.EACCES: "Choose a folder that you may write to.",
    errno.EPERM: "Choose a folder that you may write to.",
    errno.ENOENT: "Create the folder first, or choose another target.",
    errno.ENOTDIR: "Create the folder first, or choose another target.",
}
IDENTITY_PATTERNS = (
    "*.safetensors", "*.bin", "*.ckpt", "*.json", "*.model", "merges.txt", "vocab.txt",
)  # fmt: skip


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong while a file is read into this package's errors.

    Raises:
        NotFoundError: The file does not exist.
        StorageError: It cannot be opened.
        IntegrityError: Its content cannot be understood.
    """
    try:
        yield
    except ShiftregError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"There is no file '{path}'. Check the path.") from error
    except OSError as error:
        raise StorageError(f"'{path}' could not be read: {error.strerror or error}.") from error
    except Exception as error:
        # Parsers of damaged files raise almost anything.
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise IntegrityError(
            f"'{path}' is damaged or of another kind than expected: {reason}. "
            "Fetch or make it again."
        ) from error


def make_folder(folder: Path) -> None:
    """Makes a folder of the home, and those above it.

    Raises:
        StorageError: The disk refused.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The folder '{folder}' could not be made: {error.strerror or error}. "
            "Check the disk, or choose another home."
        ) from error


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        NotFoundError: The file does not exist.
        IntegrityError: It is not JSON.
    """
    with reading(path):
        return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Turns what the disk refuses into an error that names the target and a remedy."""
    try:
        yield
    except ShiftregError:
        raise
    except Exception as error:
        if _was_interrupted(error):
            raise KeyboardInterrupt from error
        code = _refusal(error)
        if code is None:
            raise
        reason = os.strerror(code) if code else str(error)
        remedy = REMEDIES.get(code, "Check the disk, or choose another target.")
        raise StorageError(f"'{target}' could not be written: {reason}. {remedy}") from error


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an interrupt is behind it: torch closes its archive on the way out, and fails."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _refusal(error: Exception) -> int | None:
    """The system's error number behind an exception; None if it was not the disk."""
    if isinstance(error, OSError):
        return error.errno or 0
    if found := re.search(r"I/O error: .*\(os error (\d+)\)", str(error)):  # safetensors
        return int(found[1])
    if isinstance(error, RuntimeError) and re.search(
        r"PytorchStreamWriter|inline_container|iostream error", str(error)
    ):
        # torch hides the cause when it writes by itself, and keeps it for a Python handle.
        cause = error.__context__
        return (cause.errno or 0) if isinstance(cause, OSError) else errno.ENOSPC
    return None


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a file to read from.

    Raises:
        NotFoundError: The file does not exist.
        StorageError: It cannot be opened.
    """
    with reading(path):
        handle = path.open("rb")
    # Only what goes wrong with this file is its fault: the block may write another one.
    with handle:
        yield handle


def read_into(handle: BinaryIO, offset: int, memory: memoryview) -> None:
    """Fills memory with a file's bytes.

    Raises:
        StorageError: They cannot be read.
        IntegrityError: The file ends before.
    """
    with reading(Path(handle.name)):
        handle.seek(offset)
        if handle.readinto(memory) < len(memory):  # type: ignore[attr-defined]
            raise EOFError("it ends too early")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits.

    Raises:
        NotFoundError: The file does not exist.
        StorageError: It cannot be read.
    """
    with reading(path), path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def folder_digest(path: Path, patterns: Sequence[str] = IDENTITY_PATTERNS) -> str:
    """SHA-256 over the names and digests of a folder's files.

    Args:
        patterns: Names of the files that count; by default weights, configurations and
            tokenizers. Hidden files never count.

    Raises:
        NotFoundError: The folder does not exist.
        InvalidInputError: It holds no file that counts.
        StorageError: A file cannot be read.
    """
    if not path.is_dir():
        raise NotFoundError(f"There is no folder '{path}'. Check the path.")
    digests = {
        file.relative_to(path): file_digest(file)
        for file in visible_files(path)
        if any(file.match(pattern) for pattern in patterns)
    }
    if not digests:
        raise InvalidInputError(
            f"'{path}' holds no weights or configurations ({', '.join(patterns)})."
        )
    return digest_of_files(digests, patterns)


def digest_of_files(
    digests: Mapping[Path, str], patterns: Sequence[str] = IDENTITY_PATTERNS
) -> str:
    """The digest of a folder from those of its files: see :func:`folder_digest`.

    Args:
        digests: Path within the folder -> SHA-256; files that do not count may be among them.
    """
    names = {
        path.as_posix(): digest
        for path, digest in digests.items()
        if any(path.match(pattern) for pattern in patterns)
    }
    lines = [f"{names[name]}  {name}\n" for name in sorted(names)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def visible_files(folder: Path) -> list[Path]:
    """All files below a folder but the hidden ones and those in hidden folders, sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
