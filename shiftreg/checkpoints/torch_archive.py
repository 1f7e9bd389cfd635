"""The container that torch saves to: a zip archive whose values lie in the file as they are."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import BinaryIO

from shiftreg.checkpoints.pickles import LARGEST_PICKLE
from shiftreg.errors import IntegrityError

LOCAL_HEADER = b"PK\x03\x04"
HEADER_SIZE = 30  # before the entry's name
END_SIZE = 22  # of the record that ends an archive, without its comment
LARGEST_LIST = 64 << 20  # bytes: a list of contents for half a million tensors


class TorchArchive:
    """An archive that was opened, and whose list of contents was checked.

    Archives are refused that torch would not write: compressed, with an entry twice, or larger
    inside than outside. So nothing can be unpacked to more than the file's own size.
    """

    def __init__(self, path: Path, handle: BinaryIO) -> None:
        """Reads the list of contents.

        Raises:
            IntegrityError: The archive is damaged, or is none that torch writes.
            Exception: Of any kind, if it is damaged.
        """
        self._path = path
        self._handle = handle
        self._size = os.fstat(handle.fileno()).st_size
        self._check_list()
        with zipfile.ZipFile(handle) as archive:
            entries = archive.infolist()
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            if entry.filename in self._entries:
                raise self._odd(f"holds '{entry.filename[:99]}' twice")
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise self._odd(f"has compressed or encrypted '{entry.filename[:99]}'")
            if entry.compress_size != entry.file_size or entry.file_size > self._size:
                raise self._odd(f"lies about the size of '{entry.filename[:99]}'")
            self._entries[entry.filename] = entry
        pickles = [name for name in self._entries if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise self._odd(f"has {len(pickles)} files data.pkl")
        self._root = pickles[0].removesuffix("data.pkl")
        if self.holds("byteorder") and self.read("byteorder", 16).strip() != b"little":
            raise self._odd("holds numbers in another order of bytes")

    def holds(self, name: str) -> bool:
        """Whether there is an entry of this name, within the archive's folder."""
        return self._root + name in self._entries

    def read(self, name: str, largest: int = LARGEST_PICKLE) -> bytes:
        """The content of a small entry.

        Raises:
            IntegrityError: It is large.
        """
        offset, size = self.locate(name)
        if size > largest:
            raise self._odd(f"has {size:,} bytes in '{name}', where at most {largest:,} belong")
        self._handle.seek(offset)
        return self._handle.read(size)

    def locate(self, name: str) -> tuple[int, int]:
        """Where an entry's content begins in the file, and its length in bytes."""
        entry = self._entries[self._root + name]
        self._handle.seek(entry.header_offset)
        header = self._handle.read(HEADER_SIZE)
        if len(header) < HEADER_SIZE or not header.startswith(LOCAL_HEADER):
            raise self._odd(f"has no '{name}' where its list says")
        name_length, extra_length = (
            int.from_bytes(header[at : at + 2], "little") for at in (26, 28)
        )
        offset = entry.header_offset + HEADER_SIZE + name_length + extra_length
        if offset + entry.file_size > self._size:
            raise self._odd(f"ends before '{name}' does")
        return offset, entry.file_size

    def _check_list(self) -> None:
        """Bounds the list of contents before it is read: each entry takes memory."""
        tail_length = min(self._size, END_SIZE + (1 << 16))
        self._handle.seek(self._size - tail_length)
        tail = self._handle.read(tail_length)
        end = tail[tail.rfind(b"PK\x05\x06") :]
        size = int.from_bytes(end[12:16], "little")
        # All ones: the size is elsewhere, as for archives of more than 4 GB.
        if size != 0xFFFFFFFF and size > LARGEST_LIST:
            raise self._odd(f"has a list of contents of {size:,} bytes")

    def _odd(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"'{self._path}' is no archive as torch writes them: it {what}. "
            "It is damaged, or was made to do harm: fetch or make it again."
        )
