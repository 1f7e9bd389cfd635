"""One concept shift in one safetensors file that describes and proves itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from shiftreg.canonical import canonical_json
from shiftreg.checkpoints.atomic import atomic_file
from shiftreg.checkpoints.files import reading
from shiftreg.checkpoints.tensor_files import safetensors_chunks
from shiftreg.errors import IntegrityError, InvalidInputError
from shiftreg.shift import ConceptShift

FORMAT = "1"
FORMAT_KEY = "shiftreg.format"
SHIFT_KEY = "shiftreg.shift"
DIGEST_KEY = "shiftreg.digest"

TEXTS = ("concept", "kind", "method", "base_digest", "text_encoder_digest", "protected_digest")
LISTS = ("aliases", "protected", "preserved")
MAPPINGS = ("hyperparameters", "metrics")


def save_shift(shift: ConceptShift, path: Path, overwrite: bool = False) -> None:
    """Writes a shift; the same shift always gives the same bytes.

    Raises:
        AlreadyExistsError: The file exists.
        InvalidInputError: The shift's metadata cannot be written as JSON text.
        StorageError: The disk refused.
    """
    content = _shift_bytes(shift)
    with atomic_file(path, overwrite) as partial:
        partial.write_bytes(content)


def load_shift(path: Path) -> ConceptShift:
    """Reads a shift, and checks that every byte is as it was saved.

    Raises:
        NotFoundError: The file does not exist.
        IntegrityError: The file is damaged or was altered.
        InvalidInputError: It is another kind of safetensors file, or its values are not a shift.
    """
    with reading(path):
        # Read whole, not mapped: what was verified must not change afterwards.
        content = path.read_bytes()
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    written = header.get("__metadata__") or {}
    if FORMAT_KEY not in written:
        raise InvalidInputError(
            f"'{path}' is a safetensors file, but holds no concept shift. "
            "Give a file that shiftreg saved."
        )
    if written[FORMAT_KEY] != FORMAT:
        raise InvalidInputError(
            f"'{path}' has format {written[FORMAT_KEY]!r}, and this version reads {FORMAT!r}. "
            "It is damaged, or needs another version of shiftreg."
        )
    with reading(path):
        try:
            shift = _build_shift(json.loads(written[SHIFT_KEY]), tensors)
        except InvalidInputError as error:
            raise InvalidInputError(f"'{path}': {error}") from error
        except KeyError as error:
            raise IntegrityError(
                f"'{path}' lacks {error}, which every shift has. Fetch or make it again."
            ) from error
        # Stricter than the digest alone, which does not cover the header's own layout.
        intact = written.get(DIGEST_KEY) == shift.digest and content == _shift_bytes(shift)
    if not intact:
        raise IntegrityError(
            f"'{path}' does not match the digest it was saved with: it is damaged or was altered. "
            "Fetch or make it again."
        )
    return shift


def _shift_bytes(shift: ConceptShift) -> bytes:
    metadata = {
        FORMAT_KEY: FORMAT,
        SHIFT_KEY: canonical_json(shift.metadata()),
        DIGEST_KEY: shift.digest,
    }
    return b"".join(safetensors_chunks(shift.tensors(), metadata))


def _build_shift(metadata: dict[str, Any], tensors: dict[str, Tensor]) -> ConceptShift:
    """Puts the value together again.

    Raises:
        KeyError: Something is missing.
        InvalidInputError: Something has a wrong type or value.
    """
    for names, kind in ((TEXTS, str), (LISTS, list), (MAPPINGS, dict)):
        for name in names:
            if not isinstance(metadata[name], kind):
                raise InvalidInputError(f"'{name}' must be a {kind.__name__}.")
    for name in LISTS:
        if not all(isinstance(item, str) for item in metadata[name]):
            raise InvalidInputError(f"'{name}' must hold nothing but text.")
    fields: dict[str, Any] = {name: metadata[name] for name in (*TEXTS, *MAPPINGS)}
    fields |= {name: tuple(metadata[name]) for name in LISTS}
    return ConceptShift(
        **fields,
        support=tensors["support"],
        factors=_group(tensors, "factors."),
        dense=_group(tensors, "dense."),
    )


def _group(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
