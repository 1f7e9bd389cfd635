"""What text encoders made of prompts before, kept from one command to the next."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

LIMIT = 4 << 30  # bytes
_PATIENCE = 60.0  # seconds that one process waits for another
_RECENT = 3600.0  # seconds within which a second use is not written down
_TABLE = """CREATE TABLE IF NOT EXISTS prompts (
    key BLOB PRIMARY KEY, checksum BLOB, tokens TEXT, shape TEXT, embeds BLOB, used REAL
) WITHOUT ROWID"""


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as text encoders read it.

    Attributes:
        tokens: By text encoder, with the special ones, without padding.
        embeds: ``e(p) (L, d_in)`` float32; None if it is too long to be encoded.
    """

    tokens: list[list[int]]
    embeds: Tensor | None


class EmbeddingCache:
    """Prompts that were encoded before; several processes may use one.

    An entry that is not what was written is as good as none, and so is a file that is no cache.
    What was not used for longest goes first.

    Args:
        path: Of the file; it is made when something is kept.
        limit: Its size, in bytes, beyond which it forgets.
    """

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self._path = path
        self._limit = limit

    def read(self, space: str, prompts: Iterable[str]) -> dict[str, EncodedPrompt]:
        """The prompts that are known.

        Args:
            space: Digest of all that an embedding depends on beside the prompt.
        """
        known: dict[str, EncodedPrompt] = {}
        used = []
        if not self._path.is_file():
            return known
        with self._open() as database:
            for prompt in dict.fromkeys(prompts):
                key = _key(space, prompt)
                row = database.execute(
                    "SELECT checksum, tokens, shape, embeds, used FROM prompts WHERE key = ?",
                    (key,),
                ).fetchone()
                if row is None or _checksum(key, *row[1:4]) != row[0]:
                    continue
                known[prompt] = _entry(*row[1:4])
                if row[4] < time.time() - _RECENT:
                    used.append((time.time(), key))
            database.executemany("UPDATE prompts SET used = ? WHERE key = ?", used)
        return known

    def write(self, space: str, prompts: Mapping[str, EncodedPrompt]) -> None:
        """Keeps prompts, and forgets others where there are too many."""
        rows = []
        for prompt, encoded in prompts.items():
            tokens = json.dumps(encoded.tokens)
            embeds = encoded.embeds
            shape = json.dumps(None if embeds is None else list(embeds.shape))
            content = b"" if embeds is None else embeds.contiguous().numpy().tobytes()
            key = _key(space, prompt)
            row = (key, _checksum(key, tokens, shape, content), tokens, shape, content)
            rows.append((*row, time.time()))
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._open() as database:
            database.execute(_TABLE)
            database.executemany("INSERT OR REPLACE INTO prompts VALUES (?, ?, ?, ?, ?, ?)", rows)
            size = "SELECT sum(length(embeds)) FROM prompts"
            while (database.execute(size).fetchone()[0] or 0) > self._limit:
                database.execute(
                    "DELETE FROM prompts WHERE key IN (SELECT key FROM prompts ORDER BY used "
                    "LIMIT 1 + (SELECT count(*) FROM prompts) / 8)"
                )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction; whatever is wrong with the file costs the cache, and nothing else."""
        try:
            with closing(sqlite3.connect(self._path, timeout=_PATIENCE)) as database, database:
                yield database
        except sqlite3.OperationalError:  # locked for long, a full disk, no permission, no table
            pass
        except sqlite3.DatabaseError:
            self._path.unlink(missing_ok=True)


def _key(space: str, prompt: str) -> bytes:
    return hashlib.sha256(f"{space}\0{prompt}".encode("utf-8", "surrogatepass")).digest()


def _checksum(key: bytes, tokens: str, shape: str, embeds: bytes) -> bytes:
    return hashlib.sha256(key + f"{tokens}\0{shape}\0".encode() + embeds).digest()


def _entry(tokens: str, shape: str, embeds: bytes) -> EncodedPrompt:
    size = json.loads(shape)
    if size is None:
        return EncodedPrompt(json.loads(tokens), None)
    values = torch.from_numpy(np.frombuffer(bytearray(embeds), np.float32).reshape(size))
    return EncodedPrompt(json.loads(tokens), values)
