"""The errors that shiftreg raises: each names the rule, the value and the remedy.

Every class is also the builtin that a caller would expect (``LookupError``, ``ValueError``, ...).
"""

from __future__ import annotations


class ShiftregError(Exception):
    """Base of all errors that shiftreg raises on purpose."""


class NotFoundError(ShiftregError, LookupError):
    """A concept, version, base or file that was asked for does not exist."""


class InvalidInputError(ShiftregError, ValueError):
    """A value, prompt or file does not have the required form."""


class CapacityError(InvalidInputError):
    """The null space of the protected prompts is too small to erase the concept."""


class IncompatibleError(ShiftregError, ValueError):
    """Things that belong to different bases or text encoders were put together."""


class IntegrityError(ShiftregError, ValueError):
    """Content does not match its digest, or a file is damaged."""


class AlreadyExistsError(ShiftregError, FileExistsError):
    """A file or record would be overwritten."""


class StorageError(ShiftregError, OSError):
    """The disk or the registry's store refused: full, read-only, locked."""


class MissingExtraError(ShiftregError, ImportError):
    """An optional dependency is not installed; the message names the extra."""


class IncompleteError(ShiftregError, RuntimeError):
    """Some of several things were done, and some were not.

    Attributes:
        missing: What was not done.
    """

    def __init__(self, message: str, missing: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.missing = missing
