"""Files that are written or read once, from front to back, and whose digest is known at the end."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from shiftreg.checkpoints.files import opened, read_into
from shiftreg.checkpoints.stored import StoredTensor, TensorSource, raw_bytes

CHUNK = 1 << 20  # bytes that are read at a time
BLOCK = 4096  # bytes: file systems share whole blocks only
BACKLOG = 4  # pieces that wait to be digested
FLUSH = 1 << 28  # bytes that are written before the disk is asked to take them
WRITE = 1 << 16  # bytes at a time: of larger ones, Linux seeks memory in one stretch, which is slow


class _Digest:
    """SHA-256, computed in a thread of its own."""

    def __init__(self) -> None:
        self._hasher = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[tuple[Future[None], bytearray | None]] = deque()
        self._free: list[bytearray] = []

    def buffer(self) -> bytearray:
        """``CHUNK`` bytes that nobody reads: fresh memory costs as much as reading into it."""
        return self._free.pop() if self._free else bytearray(CHUNK)

    def update(self, data: memoryview, buffer: bytearray | None = None) -> None:
        """Takes bytes, which must not change, and waits if the thread lags behind.

        Args:
            data: What follows.
            buffer: Where they lie, if it came from :meth:`buffer`: it is used again.
        """
        self._waiting.append((self._thread.submit(self._hasher.update, data), buffer))
        if len(self._waiting) > BACKLOG:
            digested, free = self._waiting.popleft()
            digested.result()
            if free is not None:
                self._free.append(free)

    def close(self, *, cancel: bool = False) -> None:
        """Waits for what was handed over, or gives it up."""
        self._thread.shutdown(cancel_futures=cancel)

    def value(self) -> str:
        """Hexadecimal digits; once it is closed."""
        return self._hasher.hexdigest()


class DigestedFile:
    """Writes, and computes SHA-256 in the same pass, in a thread of its own.

    Another thread has the disk take what was written, so that there is little left to wait for at
    the end.

    Attributes:
        position: How many bytes were written.
    """

    def __init__(self, path: Path) -> None:
        """Creates the file, or empties it.

        Raises:
            OSError: The disk refused.
        """
        self.position = 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        self._digest = _Digest()
        self._disk = ThreadPoolExecutor(1)
        self._flushing: Future[None] | None = None
        self._flushed = 0
        self._sharing = hasattr(os, "copy_file_range")

    def __enter__(self) -> DigestedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._digest.close(cancel=kind is not None)
        self._disk.shutdown(cancel_futures=kind is not None)
        os.close(self._descriptor)
        if kind is None and self._flushing:
            self._flushing.result()  # what the disk refused is reported once, to the first to ask

    @property
    def digest(self) -> str:
        """SHA-256 of what was written, as hexadecimal digits; once the block is left."""
        return self._digest.value()

    def write(self, data: bytes | memoryview) -> int:
        """Writes bytes, which must not change afterwards.

        Raises:
            OSError: The disk refused.
        """
        view = memoryview(data)
        self._digest.update(view)
        self._write(view)
        return len(view)

    def copy(self, source: Path, offset: int = 0, length: int | None = None) -> None:
        """Writes bytes of another file: all that follow the offset, if no length is given.

        Where they lie at the same place of a block in both files, the file system is asked to
        copy: it may share the blocks, or have a server do the work.

        Raises:
            NotFoundError: The source does not exist.
            IntegrityError: It is too short.
            StorageError: It cannot be read.
            OSError: The disk refused.
        """
        with opened(source) as handle:
            if length is None:
                length = os.fstat(handle.fileno()).st_size - offset
            for start, end in _pieces(offset, offset + length):
                buffer = self._digest.buffer()
                data = memoryview(buffer)[: end - start]
                read_into(handle, start, data)
                self._digest.update(data, buffer)
                if not self._share(handle, start, end):
                    self._write(data)

    def flush(self) -> None:
        """Nothing is held back; archive writers ask for it all the same."""

    def _write(self, data: memoryview) -> None:
        while data:
            written = os.write(self._descriptor, data[:WRITE])
            self.position += written
            data = data[written:]
        self._flush_if_much()

    def _flush_if_much(self) -> None:
        if self.position - self._flushed < FLUSH:
            return
        if self._flushing:
            if not self._flushing.done():
                return
            self._flushing.result()
        self._flushed = self.position
        self._flushing = self._disk.submit(os.fsync, self._descriptor)

    def _share(self, handle: BinaryIO, start: int, end: int) -> bool:
        """Whether the file system copied whole blocks."""
        if not self._sharing or start % BLOCK or end % BLOCK or self.position % BLOCK:
            return False
        source, target = start, self.position
        try:
            while source < end:
                copied = os.copy_file_range(
                    handle.fileno(), self._descriptor, end - source, source, target
                )
                if copied == 0:
                    raise OSError("nothing was copied")
                source, target = source + copied, target + copied
        except OSError:
            # Across file systems, or where none knows how; a full disk will say so once more.
            self._sharing = False
            return False
        self.position = os.lseek(self._descriptor, target, os.SEEK_SET)
        self._flush_if_much()
        return True


class DigestedReader:
    """Reads the tensors of a file in the order in which they lie, and digests all of its bytes.

    Attributes:
        digest: SHA-256 of the file, as hexadecimal digits; once the block is left.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._digest = _Digest()
        self.digest = ""

    def __enter__(self) -> DigestedReader:
        self._opened = opened(self._path)
        self._handle = self._opened.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._skip(os.fstat(self._handle.fileno()).st_size)
        finally:
            self._digest.close(cancel=kind is not None)
            self._handle.close()
        self.digest = self._digest.value()

    def pieces(self, source: TensorSource) -> Iterator[Tensor]:
        """See ``TensorSource``; what lies before the place that was reached is read once more."""
        if not isinstance(source, StoredTensor) or source.offset < self._position:
            yield from source.pieces()
            return
        self._skip(source.offset)
        for piece in source.empty_pieces():
            data = raw_bytes(piece)
            read_into(self._handle, self._position, data)
            self._position += len(data)
            self._digest.update(data)
            yield piece

    def _skip(self, end: int) -> None:
        """Digests what lies between tensors."""
        while self._position < end:
            buffer = self._digest.buffer()
            data = memoryview(buffer)[: end - self._position]
            read_into(self._handle, self._position, data)
            self._position += len(data)
            self._digest.update(data, buffer)


def _pieces(offset: int, end: int) -> Iterator[tuple[int, int]]:
    """Cuts a range into pieces, so that whole blocks are apart from the ends that are none."""
    first, last = -(-offset // BLOCK) * BLOCK, end // BLOCK * BLOCK
    inner = (*range(first, last, CHUNK), last) if first < last else ()
    return pairwise(sorted({offset, *inner, end}))
