"""Attacking an erasure: what is attacked, what is compared, what is kept, what is left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import mlflow
import numpy as np
import pytest
import torch
from PIL import Image

from shiftreg import api, miniature, pipelines, plugins
from shiftreg.api.attacks import images as attack_images
from shiftreg.api.attacks.images import generate_evidence, generate_found
from shiftreg.api.values import Progress
from shiftreg.attacks import AttackResult, Surface
from shiftreg.attacks.results import CONTROL, AttackReport
from shiftreg.checkpoints import Unfinished
from shiftreg.concepts import Concept
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.settings import Settings
from tests.worlds import Worlds

QUICK: dict[str, Any] = {
    "attacks": ["relearning", "noise-probe"],
    "options": {"relearning": {"iterations": 2, "batch_size": 2}},
    "images": 2,
}


@pytest.fixture(scope="module")
def erased(tmp_path_factory: pytest.TempPathFactory, worlds: Worlds) -> Iterator[api.Workspace]:
    """Caravaggio is erased by version 1; version 2 is by another method. Attacks change neither.

    Attackers have few images here.
    """
    workspace = worlds.open(tmp_path_factory.mktemp("attacked"), "Caravaggio")
    api.erase(workspace, ["Caravaggio"], method="uce")
    api.erase(workspace, ["Caravaggio@1"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attack_images, "LATENTS", 4)
        yield workspace


@pytest.fixture(scope="module")
def report(erased: api.Workspace) -> AttackReport:
    return api.attack(erased, "caravaggio", **QUICK)


@pytest.fixture(autouse=True)
def untouched(erased: api.Workspace) -> Iterator[None]:
    """After every test the base has its very tensors."""
    own = pipelines.parameters(erased.pipeline.unet)
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in own.items()}
    yield
    for name, parameter in own.items():
        assert (parameter.data_ptr(), parameter.requires_grad) == (before[name][0], False), name
        assert torch.equal(parameter, before[name][1]), name


def kept_files(workspace: api.Workspace) -> set[Path]:
    return set((workspace.settings.home / "attacks").glob("*"))


def success(report: AttackReport) -> dict[tuple[str, str], float]:
    return {(score.attack, score.target): score.success.value for score in report.scores}


# What is attacked and compared.


def test_every_attack_runs_on_the_base_and_on_the_composition(report: AttackReport) -> None:
    assert (report.concept, report.images, report.seed) == ("Caravaggio", 2, 0)
    assert [(score.attack, score.target) for score in report.scores] == [
        ("relearning", "base"),
        ("relearning", "composition"),
        ("noise-probe", "base"),
        ("noise-probe", "composition"),
        ("noise-probe", CONTROL),
    ]
    assert all(score.success.count == 2 for score in report.scores)
    assert {score.budget.get("iterations") for score in report.scores} == {2, None}
    assert all(score.result for score in report.scores)
    assert list(report.unattacked) == ["base", "composition", CONTROL]


def test_only_what_starts_from_images_is_compared_without_the_name(
    erased: api.Workspace,
) -> None:
    alone = api.attack(erased, "Caravaggio", **QUICK | {"attacks": ["relearning"], "images": 1})
    assert list(alone.unattacked) == ["base", "composition"]
    assert {score.target for score in alone.scores} == {"base", "composition"}


@dataclass(frozen=True)
class Undo:
    """Knows the base's weights, and puts them back on top of those under attack."""

    name: ClassVar[str] = "undo"
    needs: ClassVar[str] = "the base"
    source: ClassVar[str] = "this test"
    seen: ClassVar[list[Surface]] = []

    def run(self, surface: Surface, seed: int) -> AttackResult:
        self.seen.append(surface)
        deltas = {
            name: surface.base_weights[name] - weight
            for name, weight in surface.model.weights.items()
        }
        embeds = surface.words.encode([surface.concept])
        return AttackResult(
            embeds, "the base's weights", deltas=deltas, metrics={"layers": len(deltas)}
        )


@pytest.fixture
def undo(monkeypatch: pytest.MonkeyPatch) -> type[Undo]:
    Undo.seen.clear()
    monkeypatch.setattr(plugins, "known_attacks", lambda: {"undo": Undo})
    monkeypatch.setattr(plugins, "find_attack", lambda _name: Undo)
    monkeypatch.setattr(plugins, "build_attack", lambda _name, _options: Undo())
    return Undo


def test_an_attack_sees_the_weights_of_its_target_and_images_of_the_base(
    erased: api.Workspace, undo: type[Undo]
) -> None:
    report = api.attack(erased, "Caravaggio", images=1, against=["uce"])
    base = pipelines.layer_weights(erased.pipeline.unet)
    on_base, on_composition, on_version = undo.seen
    for surface in undo.seen:
        assert all(torch.equal(surface.base_weights[name], base[name]) for name in base)
        assert torch.equal(surface.latents, on_base.latents)
        assert surface.prompts[0] == surface.concept == "Caravaggio"
        assert len(surface.prompts) == len(surface.anchors)
        assert not any("Caravaggio" in anchor for anchor in surface.anchors)
        assert len(surface.latents) == len(surface.latent_prompts)
        assert {0} < set(surface.latent_prompts) <= set(range(len(surface.prompts)))
    changed = [
        {name for name in base if not torch.equal(surface.model.weights[name], base[name])}
        for surface in (on_base, on_composition, on_version)
    ]
    assert changed[0] == set()
    assert changed[1] == set(base)
    assert changed[2]
    layer = min(changed[2])
    assert not torch.equal(on_composition.model.weights[layer], on_version.model.weights[layer])
    assert {score.metrics["layers"] for score in report.scores} == {len(base)}


@dataclass(frozen=True)
class Guess:
    """Says the name, and never looks at the model."""

    name: ClassVar[str] = "guess"
    needs: ClassVar[str] = "nothing"
    source: ClassVar[str] = "this test"
    runs: ClassVar[list[str]] = []

    def run(self, surface: Surface, seed: int) -> AttackResult:
        self.runs.append(surface.concept)
        return AttackResult(surface.words.encode([surface.concept]), "its name")


def test_an_attack_that_never_looks_at_the_model_runs_once(
    erased: api.Workspace, undo: type[Undo], monkeypatch: pytest.MonkeyPatch
) -> None:
    attacks = {"guess": Guess, "undo": Undo}
    Guess.runs.clear()
    monkeypatch.setattr(plugins, "known_attacks", lambda: attacks)
    monkeypatch.setattr(plugins, "build_attack", lambda name, _options: attacks[name]())
    report = api.attack(erased, "Caravaggio", images=1, against=["@2"])
    assert len(Guess.runs) == 1
    assert len(undo.seen) == 3
    guesses = {score.target: score for score in report.scores if score.attack == "guess"}
    assert {target: score.success for target, score in guesses.items()} == report.unattacked
    assert {score.result for score in guesses.values()} == {"its name"}


def test_found_deltas_are_generated_on_top_of_the_weights_under_attack(
    erased: api.Workspace, undo: type[Undo]
) -> None:
    report = api.attack(erased, "Caravaggio", images=2)
    assert report.image is not None
    with Image.open(report.image) as grid:
        pixels = np.asarray(grid, dtype=float)
    rows = [pixels[4 + i * 132 : 132 + i * 132, -264:] for i in range(4)]
    base, composition, undone_base, undone = rows
    assert np.abs(base - composition).mean() > 5
    assert np.abs(base - undone_base).max() == 0
    assert np.abs(base - undone).max() <= 2


def test_what_is_found_is_generated_in_turn(erased: api.Workspace) -> None:
    embeds = pipelines.encode_prompts(erased.pipeline, ["a church", "a tench"])
    stages: list[Progress] = []
    images = generate_found(erased, AttackResult(embeds), {}, range(3), "generating", stages.append)
    expected = pipelines.generate(
        erased.pipeline,
        ["a church", "a tench", "a church"],
        [0, 1, 2],
        steps=2,
        guidance=erased.base.guidance,
    )
    assert np.abs(images.astype(int) - expected).max() <= 1
    assert stages == [Progress("generating", 3, 3)]


def test_the_attacker_has_images_of_the_name_and_of_other_prompts(
    erased: api.Workspace, tmp_path: Path
) -> None:
    concept = Concept("Caravaggio")
    unfinished = Unfinished(tmp_path / "unfinished")
    evidence = generate_evidence(erased, concept, 0, unfinished, lambda progress: None)
    assert evidence.latent_prompts[::2] == (0,) * (len(evidence.latents) // 2)
    assert {0} < set(evidence.latent_prompts) <= set(range(len(evidence.prompts)))
    assert len({latent.sum().item() for latent in evidence.latents}) == len(evidence.latents)


@pytest.mark.parametrize("text", ["uce", "@2", "Caravaggio@2", "caravaggio@latest"])
def test_a_version_alone_is_a_target(erased: api.Workspace, text: str) -> None:
    plan = api.plan_attack(erased, "Caravaggio", against=[text, "@2"]).plan
    assert plan.targets == ("base", "composition", "Caravaggio@2 (uce)")


def test_a_plan_says_what_would_be_done(erased: api.Workspace) -> None:
    plan = api.plan_attack(erased, "Caravaggio", **QUICK, seed=5).plan
    assert (plan.concept, plan.images, plan.seed) == ("Caravaggio", 2, 5)
    assert plan.digest == api.plan_composition(erased).digest
    assert plan.budgets["relearning"]["iterations"] == 2
    assert set(plan.budgets) == {"relearning", "noise-probe"}
    assert "style" in plan.classifier
    everything = api.plan_attack(erased, "Caravaggio").plan
    assert list(everything.budgets) == [method.name for method in api.list_attacks()]


def test_attacks_are_listed_with_what_they_need_and_take() -> None:
    listed = {method.name: method for method in api.list_attacks()}
    assert {"noise-probe", "completion-probe", "relearning"} <= set(listed)
    for method in listed.values():
        assert method.needs
        assert method.source
        for option in method.options.values():
            assert option.meaning, f"an option of {method.name} is not described"
    assert listed["relearning"].options["images"].default == 8


# What is kept.


def test_report_and_grid_are_kept_and_registered(
    erased: api.Workspace, report: AttackReport
) -> None:
    assert report.image is not None
    assert report.report_path is not None
    stored = json.loads(report.report_path.read_text())
    assert stored == api.to_json(report)
    with Image.open(report.image) as grid:
        assert grid.format == "PNG"
        assert grid.height > 7 * 128
    measurements = {m.report: m for m in erased.registry.measurements.all("miniature", "attack")}
    measurement = measurements[report.report_path.name]
    assert (measurement.concept, measurement.passed) == ("Caravaggio", None)
    assert measurement.digest == report.digest == api.plan_composition(erased).digest
    downloaded = erased.registry.measurements.download(measurement)
    assert downloaded.read_bytes() == report.report_path.read_bytes()
    grid_file = mlflow.artifacts.download_artifacts(
        run_id=measurement.run_id,
        artifact_path=f"attack/{report.image.name}",
        tracking_uri=erased.registry.uri,
    )
    assert Path(grid_file).read_bytes() == report.image.read_bytes()


def test_the_audit_trail_says_who_was_attacked_by_what_and_how_well(
    erased: api.Workspace, report: AttackReport
) -> None:
    event = next(e for e in erased.audit.events() if e.action == "attack")
    assert event.concepts == ("Caravaggio",)
    assert event.digests["composition"] == report.digest
    assert set(event.digests) == {"base", "composition", "classifier", "report"}
    assert event.details["budgets"]["relearning"]["iterations"] == 2
    on_composition = success(report)["relearning", "composition"]
    assert event.details["success"]["relearning"]["composition"] == on_composition


@pytest.mark.usefixtures("computed_anew")
def test_the_same_seed_attacks_and_generates_the_same_and_another_does_not(
    erased: api.Workspace, report: AttackReport
) -> None:
    again = api.attack(erased, "Caravaggio", **QUICK)
    other = api.attack(erased, "Caravaggio", **QUICK, seed=7)
    assert report.image is not None
    assert again.image is not None
    assert other.image is not None
    assert success(again) == success(report)
    assert again.unattacked == report.unattacked
    assert again.image.read_bytes() == report.image.read_bytes()
    assert other.image.read_bytes() != report.image.read_bytes()


@pytest.mark.parametrize(
    "stage",
    ["generating Caravaggio", "relearning on composition", f"generating noise-probe on {CONTROL}"],
)
def test_an_interrupted_attack_registers_nothing(
    erased: api.Workspace, report: AttackReport, stage: str
) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.stage == stage:
            raise KeyboardInterrupt

    before = kept_files(erased), (erased.settings.home / "audit.jsonl").read_bytes()
    runs = erased.registry.measurements.all("miniature", "attack")
    with pytest.raises(KeyboardInterrupt):
        api.attack(erased, "Caravaggio", **QUICK | {"images": 1}, observe=interrupt)
    assert (kept_files(erased), (erased.settings.home / "audit.jsonl").read_bytes()) == before
    assert erased.registry.measurements.all("miniature", "attack") == runs


def test_an_interrupted_attack_goes_on_with_what_was_found(
    erased: api.Workspace, report: AttackReport
) -> None:
    unfinished = erased.settings.home / "unfinished"
    others = {*unfinished.glob("*")}
    again = QUICK | {"seed": 3}
    expected = api.attack(erased, "Caravaggio", **again)
    assert {*unfinished.glob("*")} == others

    def interrupt(progress: Progress) -> None:
        if progress.stage == "generating noise-probe on composition":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.attack(erased, "Caravaggio", **again, observe=interrupt)
    assert {*unfinished.glob("*")} > others
    stages: set[str] = set()
    resumed = api.attack(
        erased, "Caravaggio", **again, observe=lambda progress: stages.add(progress.stage)
    )
    assert not stages & {"generating Caravaggio", "relearning on base", "relearning on composition"}
    assert f"generating noise-probe on {CONTROL}" in stages
    assert success(resumed) == success(expected)
    assert resumed.unattacked == expected.unattacked
    assert resumed.image is not None
    assert expected.image is not None
    assert resumed.image.read_bytes() == expected.image.read_bytes()
    assert [score.result for score in resumed.scores] == [score.result for score in expected.scores]
    assert {*unfinished.glob("*")} == others


def test_what_was_found_serves_no_attack_of_another_budget(erased: api.Workspace) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.stage == "generating noise-probe on base":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.attack(erased, "Caravaggio", **QUICK | {"seed": 4}, observe=interrupt)
    more: dict[str, Any] = {"options": {"relearning": {"iterations": 3, "batch_size": 2}}}
    stages: set[str] = set()
    api.attack(
        erased,
        "Caravaggio",
        **QUICK | more | {"seed": 4},
        observe=lambda progress: stages.add(progress.stage),
    )
    assert "generating Caravaggio" not in stages
    assert {"relearning on base", "relearning on composition"} <= stages


def test_what_cannot_be_registered_is_not_kept(
    erased: api.Workspace, report: AttackReport, monkeypatch: pytest.MonkeyPatch, undo: type[Undo]
) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise OSError("no")

    before = kept_files(erased)
    monkeypatch.setattr(erased.registry.measurements, "record", refuse)
    with pytest.raises(OSError, match="no"):
        api.attack(erased, "Caravaggio", images=1)
    assert kept_files(erased) == before


def test_progress_names_attack_and_target_and_shows_the_loss(
    erased: api.Workspace, undo: type[Undo]
) -> None:
    seen: list[Progress] = []
    # A seed that no interrupted attack has generated for.
    api.attack(erased, "Caravaggio", images=1, seed=6, observe=seen.append)
    stages = list(dict.fromkeys(progress.stage for progress in seen))
    assert stages == [
        "generating Caravaggio",
        "generating no attack on base",
        "generating undo on base",
        "generating no attack on composition",
        "generating undo on composition",
    ]
    assert all(progress.done == progress.total for progress in seen)


# What is refused, with its remedy.


@pytest.mark.parametrize(
    ("concept", "request_", "error", "message"),
    [
        ("Caravagio", {}, NotFoundError, "Did you mean 'Caravaggio'"),
        ("Picasso", {}, InvalidInputError, 'shiftreg erase "Picasso"'),
        (
            "Caravaggio",
            {"selection": api.Selection(without=["Caravaggio"])},
            InvalidInputError,
            "--without",
        ),
        ("Caravaggio", {"attacks": ["persuasion"]}, NotFoundError, "persuasion"),
        ("Caravaggio", {"attacks": []}, InvalidInputError, "--list"),
        ("Caravaggio", {"images": 0}, InvalidInputError, "At least 1"),
        ("Caravaggio", {"against": ["Picasso@1"]}, InvalidInputError, "none of 'Caravaggio'"),
        ("Caravaggio", {"against": ["esd"]}, NotFoundError, "--method esd"),
        ("Caravaggio", {"against": ["@9"]}, NotFoundError, "9"),
        (
            "Caravaggio",
            {"attacks": ["noise-probe"], "options": {"relearning": {"images": 2}}},
            InvalidInputError,
            "--attack relearning",
        ),
        ("Caravaggio", {"options": {"relearning": {"patience": 2}}}, InvalidInputError, "patience"),
        (
            "Caravaggio",
            {"classifier": miniature.SUBJECT_CLASSIFIER},
            NotFoundError,
            "classifier train",
        ),
        ("Caravaggio", {"classifier": Path("missing.safetensors")}, NotFoundError, "missing"),
    ],
)
def test_what_cannot_be_attacked_is_refused_before_anything_happens(
    erased: api.Workspace,
    concept: str,
    request_: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    stages: list[Progress] = []
    with pytest.raises(error, match=message):
        api.attack(erased, concept, **request_, observe=stages.append)
    with pytest.raises(error, match=message):
        api.plan_attack(erased, concept, **request_)
    assert not stages


def test_a_concept_with_a_stored_version_is_erased_again_by_that(erased: api.Workspace) -> None:
    api.restore(erased, ["Caravaggio"], reason="licence")
    try:
        with pytest.raises(InvalidInputError, match='shiftreg erase "Caravaggio@2"'):
            api.plan_attack(erased, "Caravaggio")
    finally:
        api.erase(erased, ["Caravaggio@1"])


def test_without_a_classifier_nothing_can_be_measured(home: Path, base: Path) -> None:
    workspace = api.open_workspace(Settings(home, "tiny", None))
    api.register_base(workspace, str(base), name="tiny", protected=["cat"], subjects=["dog"])
    with pytest.raises(NotFoundError, match="shiftreg classifier train"):
        api.plan_attack(workspace, "cat")
