"""A checkpoint and all that lies beside it: they appear together, or nothing changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shiftreg.checkpoints.atomic import (
    already_exists,
    check_vacant,
    is_left,
    partial_path,
    place_file,
    place_folder,
    storage_errors,
    sync,
    sync_entry,
)

PREVIOUS = ".previous"


class Placement:
    """Files and folders that are made in a hidden folder, and then appear together.

    Attributes:
        path: Where to write the target itself; what is written beside it will lie beside it.
    """

    def __init__(
        self, target: Path, folder: Path, family: Iterable[Path], overwrite: bool = False
    ) -> None:
        """Plans a placement; use :func:`placed_together`.

        Args:
            target: What will appear.
            folder: A folder of the same file system, where it is made.
            family: All that may lie beside the target and belongs to it: what is there already
                goes with the target that it replaces.
            overwrite: Replaces what is there.
        """
        self.path = folder / target.name
        self._target = target
        self._folder = folder
        self._previous = folder.with_name(f"{folder.name}{PREVIOUS}")
        self._family = (target, *family)
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
            made = sorted(self._folder.iterdir(), key=lambda path: path == self.path)
            places = {path: self._target.with_name(path.name) for path in made}
            for path in made:
                sync(path)
            for place in dict.fromkeys((*self._family, *places.values())):
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
    target: Path, family: Iterable[Path] = (), overwrite: bool = False
) -> Iterator[Placement]:
    """Makes a target and its companions in a hidden folder, from which they appear together.

    Args:
        target: What will appear: a file or a folder.
        family: Files that may lie beside it and belong to it.
        overwrite: Replaces target and family, if they are there.

    Yields:
        The placement. Call :meth:`Placement.place` when all is made; leaving the block by an
        exception, even after that, leaves everything as it was before.

    Raises:
        AlreadyExistsError: The target or one of its family exists.
        StorageError: The disk refused.
    """
    family = tuple(family)
    for path in (target, *family):
        check_vacant(path, overwrite)
    with storage_errors(target):
        folder = partial_path(target)
        folder.mkdir()
    placement = Placement(target, folder, family, overwrite)
    try:
        yield placement
    except BaseException:
        placement.withdraw()
        raise
    else:
        placement.forget()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def take_back(target: Path, appeared: Iterable[Path]) -> None:
    """Undoes a placement whose process is gone, wherever it stopped.

    Args:
        target: What was to appear.
        appeared: What of the target and its family was not there before.
    """
    left = _left_beside(target)
    # The hidden folder goes last: without it, the placement ended, and what is there is not its.
    for path in appeared if left else ():
        _remove(path)
    for folder in left:
        if folder.name.endswith(PREVIOUS):
            for path in folder.iterdir():
                place = target.with_name(path.name)
                _remove(place)
                os.rename(path, place)


def forget_replaced(target: Path) -> None:
    """Removes what a placement whose process is gone had made and set aside."""
    for folder in _left_beside(target):
        _remove(folder)


def _left_beside(target: Path) -> list[Path]:
    beside = target.parent.iterdir() if target.parent.is_dir() else ()
    return [
        path for path in beside if is_left(path) and path.name.startswith(f".{target.name[:40]}.")
    ]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
