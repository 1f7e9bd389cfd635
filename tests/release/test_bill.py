"""Bills of materials, held to the schema of CycloneDX."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.exception import MissingOptionalDependencyException
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from shiftreg.errors import MissingExtraError
from shiftreg.release import Part, write_bill

BASE = Part("base:1", "miniature", "1", "The base.", digest="b" * 64)
SHIFT = Part(
    "shift:1",
    "shift of Čapek",
    "Čapek@2",
    "A shift.",
    digest="c" * 64,
    properties={"concept": "Čapek", "method": "closed-form"},
    made_from=("base:1",),
)
RELEASED = Part(
    "export:1",
    "model.ckpt",
    "1",
    "miniature without Čapek.",
    digest="a" * 64,
    properties={"state:Čapek": "erased"},
    made_from=("base:1", "shift:1"),
)
FOLDER = Part(
    "export:2",
    "model",
    "1",
    "A folder.",
    files={"unet/weights.safetensors": "d" * 64, "model_index.json": "e" * 64},
    made_from=("base:1",),
)


def written(path: Path, released: Part = RELEASED, *parts: Part) -> dict[str, Any]:
    write_bill(released, parts or (BASE, SHIFT), path, "0.1.0")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("released", "parts"), [(RELEASED, (BASE, SHIFT)), (FOLDER, (BASE,))])
def test_a_bill_keeps_to_the_schema(
    tmp_path: Path, released: Part, parts: tuple[Part, ...]
) -> None:
    path = tmp_path / "bill.json"
    document = written(path, released, *parts)
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    try:
        assert validator.validate_str(path.read_text(encoding="utf-8")) is None
        document["components"][0]["type"] = "painting"
        assert validator.validate_str(json.dumps(document)) is not None
    except MissingOptionalDependencyException:
        if os.environ.get("CI"):
            raise
        pytest.skip("needs cyclonedx-python-lib[json-validation]")


def test_parts_are_models_with_digests_and_know_what_they_are_made_from(tmp_path: Path) -> None:
    document = written(tmp_path / "bill.json")
    released = document["metadata"]["component"]
    base, shift = document["components"]
    assert {part["type"] for part in (released, base, shift)} == {"machine-learning-model"}
    assert released["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert shift["version"] == "Čapek@2"
    assert {"name": "shiftreg:concept", "value": "Čapek"} in shift["properties"]
    depends = {entry["ref"]: entry.get("dependsOn") for entry in document["dependencies"]}
    assert depends["export:1"] == ["base:1", "shift:1"]
    assert depends["shift:1"] == ["base:1"]


def test_a_folder_lists_its_files(tmp_path: Path) -> None:
    document = written(tmp_path / "bill.json", FOLDER, BASE)
    released = document["metadata"]["component"]
    assert "hashes" not in released
    files = {part["name"]: part["hashes"][0]["content"] for part in released["components"]}
    assert files == FOLDER.files


def test_equal_content_gives_equal_bytes_and_other_content_another_number(tmp_path: Path) -> None:
    one, again = tmp_path / "one.json", tmp_path / "again.json"
    first, second = written(one), written(again)
    assert one.read_bytes() == again.read_bytes()
    other = written(tmp_path / "other.json", FOLDER, BASE)
    assert first["serialNumber"] == second["serialNumber"] != other["serialNumber"]
    assert "timestamp" not in first["metadata"]


def test_the_library_reads_it_again(tmp_path: Path) -> None:
    bom = Bom.from_json(written(tmp_path / "bill.json"))  # type: ignore[attr-defined]
    assert {component.name for component in bom.components} == {"miniature", "shift of Čapek"}


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cyclonedx", None)
    with pytest.raises(MissingExtraError, match=r"shiftreg\[release\]"):
        written(tmp_path / "bill.json")
