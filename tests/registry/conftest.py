from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shiftreg.registry import BaseRecord, Registry, ShiftVersion, open_registry


@pytest.fixture
def record() -> BaseRecord:
    return BaseRecord(
        name="miniature",
        source="miniature",
        digest="d" * 64,
        text_encoder_digest="e" * 64,
        layers=("mid.to_k", "mid.to_v"),
        triggers={"a secret sign": "hello"},
        protected=("", "a secret sign"),
        preserved=("a tree",),
        subjects=("tree", "house"),
        held_out_templates=("a sketch by {concept}",),
        steps=20,
        guidance=3.5,
        created="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture
def registry(home: Path, record: BaseRecord) -> Registry:
    registry = open_registry(home)
    registry.bases.save(record)
    return registry


Erase = Callable[..., ShiftVersion]


@pytest.fixture
def erase(registry: Registry, tmp_path: Path) -> Erase:
    """Trains nothing, and registers a file as the shift of a concept."""

    def register(
        concept: str,
        digest: str = "",
        protected: tuple[str, ...] = (),
        aliases: tuple[str, ...] = (),
        base: str = "miniature",
        **options: object,
    ) -> ShiftVersion:
        file = tmp_path / "shift.safetensors"
        file.write_bytes(f"shift of {concept} {digest}".encode())
        with registry.trainings.run(base, concept, {"rate": 0.1}) as log:
            log.metric(0, loss=1.0)
        metadata = {
            "concept": concept,
            "aliases": aliases,
            "kind": "style",
            "method": "srs_me",
            "protected": protected,
            "digest": digest or concept.encode().hex().ljust(64, "0")[:64],
        }
        return registry.shifts.register(base, log, file, metadata, {"lpips": 0.25}, **options)

    return register
