"""Verification: it passes what is right, and says what is wrong."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shiftreg import api
from shiftreg.api.composition.verify import keep_verification
from shiftreg.api.release.policy import attack_checks
from shiftreg.api.values import Progress, Verification
from shiftreg.checkpoints import file_digest
from shiftreg.checks import Check
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError
from shiftreg.verification import Gates
from tests.worlds import Worlds


@pytest.fixture
def erased(home: Path, worlds: Worlds) -> api.Workspace:
    """Caravaggio is erased, and an export says so."""
    return worlds.exported(home, "Caravaggio", name="model.ckpt")


@pytest.fixture
def exported(erased: api.Workspace) -> Path:
    """A file without Caravaggio."""
    return erased.settings.home.with_name("model.ckpt")


def by_name(checks: tuple[Check, ...], name: str) -> list[Check]:
    return [check for check in checks if check.name == name]


def test_every_part_of_a_composition_is_checked(erased: api.Workspace) -> None:
    result = api.verify(erased, images=1)
    names = {check.name for check in result.checks}
    seen = {"images", "ordinary", "watermark", "erasure"}
    assert names == {"separability", "noise", "remaining"} | seen
    left = {check.subject: check for check in by_name(result.checks, "remaining")}
    kinds = ("its name", "trained prompts", "held-out prompts")
    assert left.keys() == {f"Caravaggio, {kind}" for kind in kinds}
    assert all(check.value < 0.2 and check.passed for check in left.values())
    assert result.unmeasured == ()
    assert all(check.passed for check in by_name(result.checks, "separability"))
    assert all(check.passed for check in by_name(result.checks, "noise"))
    assert all(check.passed for check in by_name(result.checks, "images"))
    assert result.separability["Caravaggio"]["Picasso"] <= 1e-5
    assert "'Caravaggio'" not in {check.subject for check in by_name(result.checks, "images")}
    assert result.report_path is not None
    report = json.loads(result.report_path.read_text())
    assert report["schema_version"] == 1
    assert report["passed"] == result.passed == all(check.passed for check in result.checks)


def test_verifications_of_one_moment_keep_a_report_each(erased: api.Workspace) -> None:
    result = api.verify(erased, images=1)
    kept = [keep_verification(erased, replace(result, classifier=name)) for name in "abcd"]
    paths = [one.report_path for one in kept if one.report_path]
    assert [json.loads(path.read_text())["classifier"] for path in paths] == list("abcd")
    assert result.report_path not in paths


def test_images_of_the_same_weights_are_generated_once_and_believed_as_far_as_the_trail_knows(
    erased: api.Workspace,
) -> None:
    def verified() -> tuple[Verification, bool]:
        seen: list[Progress] = []
        result = api.verify(erased, images=1, observe=seen.append)
        return result, "generating" in {progress.stage for progress in seen}

    def pixels(path: Path) -> dict[str, bytes]:
        with np.load(path) as arrays:
            return {name: array.tobytes() for name, array in arrays.items()}

    first, generated = verified()
    path = first.images
    assert generated
    assert path is not None
    assert erased.audit.events()[-1].digests["images"] == file_digest(path)
    whole = pixels(path)
    again, generated = verified()
    assert not generated
    assert again.images == path
    # The same but for the last digits: how LPIPS is summed depends on where images lie in memory.
    assert [(c.name, c.subject, c.limit, c.passed) for c in again.checks] == [
        (c.name, c.subject, c.limit, c.passed) for c in first.checks
    ]
    assert [c.value for c in again.checks] == pytest.approx(
        [c.value for c in first.checks], abs=1e-6
    )
    with np.load(path) as arrays:
        changed = {name: 255 - array for name, array in arrays.items()}
    np.savez(path, **changed)
    assert verified()[1]
    assert pixels(path) == whole
    path.write_bytes(b"")
    assert verified()[1]
    assert pixels(path) == whole
    trail = erased.audit.store.path
    trail.write_bytes(b"".join(trail.read_bytes().splitlines(keepends=True)[:2]))
    assert [event.action for event in erased.audit.events()] == ["init", "erase"]
    assert verified()[1]


def test_a_shift_that_touches_a_later_concept_fails_separability(erased: api.Workspace) -> None:
    api.erase(erased, ["Rembrandt"])
    result = api.verify(erased, selection=api.Selection(only=["Caravaggio"]), images=1)
    (check,) = by_name(result.checks, "separability")
    assert not check.passed
    assert not result.passed
    assert check.subject == "Caravaggio -> 'Rembrandt'"
    assert "shiftreg refresh" in check.explanation
    api.refresh(erased)
    result = api.verify(erased, selection=api.Selection(only=["Caravaggio"]), images=1)
    assert all(check.passed for check in by_name(result.checks, "separability"))


def test_an_exported_file_is_what_its_recipe_says(erased: api.Workspace, exported: Path) -> None:
    result = api.verify(erased, exported, images=1)
    (check,) = by_name(result.checks, "file")
    assert check.passed
    (version,) = erased.registry.compositions.all("miniature")
    assert version.verification is not None
    assert version.verification["passed"] == result.passed


def test_one_changed_weight_in_a_file_is_found(erased: api.Workspace, exported: Path) -> None:
    content = torch.load(exported, weights_only=True)
    key = next(key for key in content["state_dict"] if key.endswith("attn2.to_v.weight"))
    content["state_dict"][key][0, 0] += 0.5
    torch.save(content, exported)
    result = api.verify(erased, exported, images=1)
    (check,) = by_name(result.checks, "file")
    assert not check.passed
    assert not result.passed
    assert key in check.explanation


def test_a_file_whose_recipe_was_exchanged_is_refused(
    erased: api.Workspace, exported: Path
) -> None:
    recipe = exported.with_name("model.ckpt.recipe.json")
    recipe.write_text(recipe.read_text().replace('"erased"', '"generates"'))
    with pytest.raises(IntegrityError, match="recipe"):
        api.verify(erased, exported)


def test_a_recipe_that_is_none_is_refused(erased: api.Workspace, exported: Path) -> None:
    path = exported.with_name("model.ckpt.recipe.json")
    good = json.loads(path.read_text())
    for bad in (
        b"",
        b"\xff\xfe",
        b"{",
        b"[" * 100_000,
        b"[]",
        b"{}",
        *(json.dumps({**good, key: 5}).encode() for key in ("base", "shifts", "states", "dtype")),
        json.dumps({**good, "shifts": [{"concept": "Picasso"}]}).encode(),
        json.dumps({**good, "shifts": [{**good["shifts"][0], "version": "1"}]}).encode(),
    ):
        path.write_bytes(bad)
        with pytest.raises(IntegrityError, match="recipe"):
            api.verify(erased, exported)


def test_a_file_without_recipe_or_without_existence_is_refused(
    erased: api.Workspace, exported: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.ckpt"
    shutil.copyfile(exported, alone)
    with pytest.raises(NotFoundError, match="recipe"):
        api.verify(erased, alone)
    with pytest.raises(NotFoundError, match="no file"):
        api.verify(erased, tmp_path / "missing.ckpt")


def test_a_pickle_with_code_in_place_of_the_file_is_refused_and_not_run(
    erased: api.Workspace, exported: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    # A protocol-0 pickle that would call os.system.
    exported.write_bytes(f"cos\nsystem\n(S'touch {trace}'\ntR.".encode())
    with pytest.raises(IntegrityError):
        api.verify(erased, exported)
    assert not trace.exists()


def test_a_file_and_a_choice_of_concepts_exclude_each_other(
    erased: api.Workspace, exported: Path
) -> None:
    with pytest.raises(InvalidInputError, match="do not go with a file"):
        api.verify(erased, exported, selection=api.Selection(only=["Caravaggio"]))
    with pytest.raises(InvalidInputError, match="At least 1 image"):
        api.verify(erased, images=0)


def test_gates_of_the_project_and_of_the_call_decide(erased: api.Workspace) -> None:
    strict = replace(erased.settings, gates={"ordinary": 0.0, "name": 1.0})
    result = api.verify(replace(erased, settings=strict), images=1, gates={"held_out_prompts": 1.0})
    assert result.gates["ordinary"] == 0.0
    (ordinary,) = by_name(result.checks, "ordinary")
    assert not ordinary.passed
    assert all(check.passed for check in by_name(result.checks, "erasure"))
    assert erased.audit.events()[-1].details["gates"] == dict(result.gates)
    with pytest.raises(InvalidInputError, match="has no gate 'beauty'"):
        api.verify(erased, gates={"beauty": 1.0})


def rate(value: float) -> dict[str, float]:
    return {"value": value, "low": value / 2, "high": (1 + value) / 2, "count": 20}


def test_a_gate_for_attacks_needs_one_that_was_recorded(
    erased: api.Workspace, tmp_path: Path
) -> None:
    (missing,) = by_name(api.verify(erased, images=1, gates={"attack": 0.5}).checks, "attack")
    plan = api.plan_composition(erased)
    assert not missing.passed
    assert "shiftreg attack 'Caravaggio'" in missing.explanation
    report = tmp_path / "attack.json"
    scores = [
        {"attack": "weak", "target": "composition", "success": rate(0.2)},
        {"attack": "strong", "target": "composition", "success": rate(0.4)},
        {"attack": "strong", "target": "base", "success": rate(1.0)},
        {"attack": "probe", "target": "composition", "success": rate(0.75)},
        {"attack": "probe", "target": "base, without the name", "success": rate(0.5)},
    ]
    report.write_text(json.dumps({"scores": scores}))
    digest = plan.digest
    kept = erased.registry.measurements.record(
        "miniature", "attack", digest, report, metrics={}, concept="Caravaggio"
    )
    (doubted,) = attack_checks(erased, plan, Gates(attack=0.5))
    assert not doubted.passed
    assert "the audit trail does not know it" in doubted.explanation
    erased.audit.append(
        "attack",
        base="miniature",
        concepts=["Caravaggio"],
        digests={"composition": digest, "report": kept.report_digest},
    )
    (held,) = attack_checks(erased, plan, Gates(attack=0.5))
    assert (held.passed, held.value, held.interval) == (True, 0.4, (0.2, 0.7))
    (broken,) = attack_checks(erased, plan, Gates(attack=0.3))
    assert not broken.passed
    assert "strong makes Caravaggio appear in 40%" in broken.explanation
    # A later attack whose report was taken away: the one before it is not the last word.
    erased.audit.append(
        "attack",
        base="miniature",
        concepts=["Caravaggio"],
        digests={"composition": digest, "report": "0" * 64},
    )
    (lost,) = attack_checks(erased, plan, Gates(attack=0.5))
    assert not lost.passed
    assert "no true report of the last one" in lost.explanation


def test_a_concept_that_no_classifier_knows_is_measured_all_the_same(
    workspace: api.Workspace,
) -> None:
    """Of her prompts only the name fits, and erasing that one leaves her images as they were."""
    name = "Georgia O'Keeffe"
    api.erase(workspace, [name])
    result = api.verify(workspace, images=1)
    (left,) = by_name(result.checks, "remaining")
    assert left.value > 0.3
    assert not left.passed
    assert not result.passed
    assert by_name(result.checks, "erasure") == []
    (sentence,) = result.unmeasured
    assert sentence.startswith(f"{name} in images: not measured")
    asked = api.verify(workspace, images=1, gates={"name": 0.02})
    (check,) = by_name(asked.checks, "erasure")
    assert (check.subject, check.passed) == (f"{name}, its name", False)
