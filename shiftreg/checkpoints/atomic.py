"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shiftreg.errors import AlreadyExistsError, InvalidInputError, ShiftregError, StorageError
from shiftreg.processes import is_gone, this_process

PARTIAL = re.compile(r"\..*\.([0-9a-f]+-\d+)-[0-9a-f]{8}\.partial(?:\.previous)?", re.DOTALL)
REMEDIES = {
    errno.ENOSPC: "Free some space, or choose another place.",
    errno.EDQUOT: "Free some space, or choose another place.",
    errno.EROFS: "Choose a folder that you may write to.",
    errno.EACCES: "Choose a folder that you may write to.",
    errno.EPERM: "Choose a folder that you may write to.",
    errno.ENOENT: "Create the folder first, or choose another place.",
    errno.ENOTDIR: "Create the folder first, or choose another place.",
}


@contextmanager
def atomic_file(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """Lets a file appear whole or not at all.

    Args:
        target: Where the file will be.
        overwrite: Replaces a file that is there.

    Yields:
        An empty temporary file beside the target, to be written. Leaving the block normally
        moves it to the target; leaving it by any exception removes it.

    Raises:
        AlreadyExistsError: The target exists, or another writer made it meanwhile.
        InvalidInputError: The target is a folder.
        StorageError: The disk is full or read-only, or the folder is missing.
    """
    with storage_errors(target):
        check_vacant(target, overwrite)
        if target.is_dir():
            raise InvalidInputError(f"'{target}' is a folder, and a file would be written there.")
        partial = partial_path(target)
        try:
            # Created at once: a place that refuses should say so before the work, not after it.
            partial.touch(exist_ok=False)
            yield partial
            sync(partial)
            if overwrite:
                os.replace(partial, target)
            else:
                place_file(partial, target)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        sync_entry(target.parent)


@contextmanager
def atomic_folder(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """Lets a folder appear whole or not at all; like :func:`atomic_file`.

    Args:
        target: Where the folder will be.
        overwrite: Replaces the whole folder that is there.

    Yields:
        An empty temporary folder beside the target, to be filled.

    Raises:
        AlreadyExistsError: The target exists, or another writer made it meanwhile.
        InvalidInputError: The target is a file.
        StorageError: The disk is full or read-only, or the parent folder is missing.
    """
    with storage_errors(target):
        check_vacant(target, overwrite)
        if os.path.lexists(target) and not target.is_dir():
            raise InvalidInputError(f"'{target}' is a file, and a folder would be written there.")
        partial = partial_path(target)
        try:
            partial.mkdir()
            yield partial
            for path in partial.rglob("*"):
                sync(path)
            sync_entry(partial)
            if os.path.lexists(target) and overwrite:
                _swap_folders(partial, target)
            else:
                place_folder(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        sync_entry(target.parent)


def already_exists(target: Path) -> AlreadyExistsError:
    """The error for a target that is there."""
    return AlreadyExistsError(
        f"'{target}' exists already, and nothing is overwritten unasked. "
        "Choose another name, or ask for overwriting."
    )


def is_left(path: Path) -> bool:
    """Whether it was to become a file or folder, and the process that wrote it is gone."""
    match = PARTIAL.fullmatch(path.name)
    return match is not None and is_gone(match[1])


def partial_path(target: Path) -> Path:
    """A hidden name beside the target that no other writer uses."""
    owner = f"{this_process()}-{secrets.token_hex(4)}"
    return target.with_name(f".{target.name[:40]}.{owner}.partial")


def check_vacant(target: Path, overwrite: bool) -> None:
    """Refuses early what could not be placed.

    Raises:
        AlreadyExistsError: The target exists.
        StorageError: Its folder does not.
    """
    if not target.parent.is_dir():
        raise StorageError(
            f"'{target}' could not be written: there is no folder '{target.parent}'. "
            + REMEDIES[errno.ENOENT]
        )
    if os.path.lexists(target) and not overwrite:
        raise already_exists(target)


def place_file(partial: Path, target: Path) -> None:
    """Gives the file its name, unless the name was taken meanwhile."""
    try:
        os.link(partial, target)
    except FileExistsError as error:
        raise already_exists(target) from error
    except OSError:
        # Not every file system has hard links: reserve the name instead, then replace it.
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError as error:
            raise already_exists(target) from error
        try:
            os.replace(partial, target)
        except BaseException:
            target.unlink()
            raise


def place_folder(partial: Path, target: Path) -> None:
    """Gives the folder its name, unless the name was taken meanwhile."""
    try:
        os.rename(partial, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise already_exists(target) from error
        raise


def _swap_folders(partial: Path, target: Path) -> None:
    """Moves the old folder away, the new one in, and back again if that fails."""
    retired = partial_path(target)
    try:
        os.rename(target, retired)
        os.rename(partial, target)
    except BaseException:
        if os.path.lexists(retired) and not os.path.lexists(target):
            os.rename(retired, target)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def sync(path: Path) -> None:
    """Returns when the content is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_entry(folder: Path) -> None:
    """Makes a rename durable; some file systems cannot, and the file itself is safe by then."""
    with suppress(OSError):
        sync(folder)


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
        remedy = REMEDIES.get(code, "Check the disk, or choose another place.")
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
