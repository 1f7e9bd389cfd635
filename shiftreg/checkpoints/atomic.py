"""Files and folders that appear whole or not at all, alone or with what lies beside them."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shiftreg.checkpoints.files import REMEDIES, storage_errors
from shiftreg.errors import AlreadyExistsError, InvalidInputError, StorageError
from shiftreg.processes import is_gone, this_process

PREVIOUS = ".previous"
PARTIAL = re.compile(r"\..*\.([0-9a-f]+-\d+)-[0-9a-f]{8}\.partial(?:\.previous)?", re.DOTALL)


@contextmanager
def atomic_file(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """Lets a file appear whole or not at all.

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

    Yields:
        An empty hidden folder, to be filled.
    """
    with storage_errors(target), placed_together(target, overwrite=overwrite) as placement:
        if os.path.lexists(target) and not target.is_dir():
            raise InvalidInputError(f"'{target}' is a file, and a folder would be written there.")
        placement.path.mkdir()
        yield placement.path
        placement.place()


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


class Placement:
    """Files and folders that are made in a hidden folder, and then appear together.

    Attributes:
        path: Where to write the target itself; what is written beside it will lie beside it.
        folder: Where that is, hidden.
    """

    def __init__(
        self, target: Path, folder: Path, sidecars: Iterable[Path], overwrite: bool = False
    ) -> None:
        """Plans a placement; use :func:`placed_together`, which makes the hidden folder."""
        self.path = folder / target.name
        self.folder = folder
        self._target = target
        self._previous = folder.with_name(f"{folder.name}{PREVIOUS}")
        self._everything = (target, *sidecars)
        self._overwrite = overwrite
        self._placed: list[Path] = []
        self._set_aside: list[Path] = []

    def place(self) -> None:
        """Lets everything that was made appear, the target itself last.

        Raises:
            AlreadyExistsError: A name is taken, and nothing is to be overwritten.
            StorageError: The disk refused.
        """
        with storage_errors(self._target):
            made = sorted(self.folder.iterdir(), key=lambda path: path == self.path)
            places = {path: self._target.with_name(path.name) for path in made}
            for path in self.folder.rglob("*"):
                sync(path)
            for place in dict.fromkeys((*self._everything, *places.values())):
                if os.path.lexists(place):
                    self._take_away(place)
            for path, place in places.items():
                (place_folder if path.is_dir() else place_file)(path, place)
                self._placed.append(place)
            sync_entry(self._target.parent)

    def withdraw(self) -> None:
        """Takes away what appeared, and puts back what was there before."""
        while self._placed:
            _remove(self._placed.pop())
        while self._set_aside:
            place = self._set_aside.pop()
            if os.path.lexists(self._previous / place.name):
                os.rename(self._previous / place.name, place)
        self.forget()

    def forget(self) -> None:
        """Removes what was replaced."""
        shutil.rmtree(self._previous, ignore_errors=True)

    def _take_away(self, place: Path) -> None:
        if not self._overwrite:
            raise already_exists(place)
        self._previous.mkdir(exist_ok=True)
        self._set_aside.append(place)
        os.rename(place, self._previous / place.name)


@contextmanager
def placed_together(
    target: Path, sidecars: Iterable[Path] = (), overwrite: bool = False
) -> Iterator[Placement]:
    """Makes a target and its companions in a hidden folder, from which they appear together.

    Args:
        target: What will appear: a file or a folder.
        sidecars: All that may lie beside it and belongs to it: what is there already goes with
            the target that it replaces.
        overwrite: Replaces target and sidecars, if they are there.

    Yields:
        The placement. Call :meth:`Placement.place` when all is made; leaving the block by an
        exception, even after that, leaves everything as it was before.

    Raises:
        AlreadyExistsError: The target or one of its sidecars exists.
        StorageError: The disk refused.
    """
    sidecars = tuple(sidecars)
    for path in (target, *sidecars):
        check_vacant(path, overwrite)
    with storage_errors(target):
        folder = partial_path(target)
        folder.mkdir()
    placement = Placement(target, folder, sidecars, overwrite)
    try:
        yield placement
    except BaseException:
        placement.withdraw()
        raise
    else:
        placement.forget()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def take_back(target: Path, partial: str, appeared: Iterable[Path], existed: Iterable[str]) -> None:
    """Undoes a placement whose process is gone, wherever it stopped.

    Args:
        partial: Name of the hidden folder where it was made.
        appeared: What had appeared, and goes.
        existed: Names of what may be put back, if nobody has written to their places since.
    """
    for path in appeared:
        _remove(path)
    previous = target.with_name(f"{partial}{PREVIOUS}")
    if not is_left(previous) or previous.is_symlink() or not previous.is_dir():
        return
    for name in existed:
        if os.path.lexists(previous / name) and not os.path.lexists(target.with_name(name)):
            os.rename(previous / name, target.with_name(name))
    with suppress(OSError):
        previous.rmdir()


def forget_partial(target: Path, partial: str) -> None:
    """Removes what a process that is gone had made beside a target, to place it there."""
    path = target.with_name(partial)
    if is_left(path):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
