from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import pytest
from PIL import Image

from shiftreg import api
from shiftreg.api.evaluation.evaluate import UNNAMED
from shiftreg.api.values import Evaluation, Progress
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.evaluation.scenes import Scene, SceneStep, read_scene
from tests.worlds import Worlds

NAMES = ("Picasso", "Cezanne", "Kilian Eng")
SCENE = Scene(
    "Two and back",
    NAMES,
    (SceneStep(erase=("Picasso", "Cezanne"), label="t0"), SceneStep(restore=("Cezanne",))),
)


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory, worlds: Worlds) -> api.Workspace:
    """A workspace whose base generates in two steps."""
    return worlds.open(tmp_path_factory.mktemp("owner"))


@pytest.fixture(scope="module")
def evaluation(owner: api.Workspace) -> Evaluation:
    return api.evaluate(owner, SCENE, images=2)


def test_a_scene_says_what_each_concept_is_after_each_step(evaluation: Evaluation) -> None:
    roles = [[score.role for score in step.scores] for step in evaluation.steps]
    assert roles == [["forgotten", "forgotten", "regular"], ["forgotten", "recovered", "regular"]]
    assert [step.action for step in evaluation.steps] == [
        "erase Picasso, Cezanne",
        "restore Cezanne",
    ]
    assert evaluation.steps[1].states == {
        "Picasso": "erased",
        "Cezanne": "generates",
        "Kilian Eng": "generates",
    }


def test_recovered_and_regular_concepts_look_as_on_the_base(evaluation: Evaluation) -> None:
    erased, cezanne, eng = evaluation.steps[1].scores
    assert erased.lpips.value > 0.05
    for score in (cezanne, eng):
        assert score.lpips.value < 1e-3
        assert score.frechet < 0.05
        assert score.accuracy.value == score.base_accuracy.value


def test_paraphrases_are_looked_at_after_the_last_step(evaluation: Evaluation) -> None:
    first, last = evaluation.steps
    assert first.paraphrases == ()
    forms = [score.form for score in last.paraphrases if score.concept == "Picasso"]
    assert forms == [
        "held-out prompts", "aliases", "misspellings", "other spellings", "neighbours",
    ]  # fmt: skip
    near = next(score for score in last.paraphrases if score.form == "neighbours")
    assert "Picasso" not in near.prompts
    assert near.lpips.value < 1e-3


def test_the_report_the_grid_and_the_record_are_kept(
    evaluation: Evaluation, owner: api.Workspace
) -> None:
    assert evaluation.report_path is not None
    report = json.loads(evaluation.report_path.read_text())
    assert report["steps"][1]["scores"][0]["accuracy"]["count"] == 2
    assert evaluation.image is not None
    with Image.open(evaluation.image) as image:
        assert image.width > image.height / 2
    (kept,) = owner.registry.measurements.all("miniature", "evaluation")
    assert kept.digest == evaluation.steps[-1].digest
    assert kept.passed == evaluation.passed
    assert json.loads(owner.registry.measurements.download(kept).read_text()) == report
    grid_file = mlflow.artifacts.download_artifacts(
        run_id=kept.run_id,
        artifact_path=f"evaluation/{evaluation.image.name}",
        tracking_uri=owner.registry.uri,
    )
    assert Path(grid_file).read_bytes() == evaluation.image.read_bytes()
    assert owner.audit.events()[-1].action == "evaluate"


@pytest.mark.second_tier
def test_a_scene_of_the_paper_plays_and_stands_beside_its_numbers(owner: api.Workspace) -> None:
    scene = read_scene(Path(__file__).parents[3] / "examples" / "scenes" / "scene3.yaml")
    result = api.evaluate(owner, scene, images=2, paraphrases="none")
    roles = [{s.concept: s.role for s in step.scores} for step in result.steps]
    assert [len(step.scores) for step in result.steps] == [9] * 5
    assert roles[0]["Van Gogh"] == "regular"
    assert [step["Van Gogh"] for step in roles[2:]] == ["forgotten", "recovered", "recovered"]
    assert [name for name, role in roles[-1].items() if role == "forgotten"] == [
        "Jackson Pollock", "Caravaggio", "Keith Haring",
    ]  # fmt: skip
    for step in result.steps:
        assert all(s.lpips.value < 1e-3 for s in step.scores if s.role != "forgotten")
    assert result.reference["t4"]["Van Gogh"] == "67.5/89.6/.125"


def test_a_scene_changes_nothing_of_the_workspace(
    evaluation: Evaluation, owner: api.Workspace
) -> None:
    assert owner.registry.shifts.concepts("miniature") == ()
    assert {event.action for event in owner.audit.events()} == {"init", "evaluate"}


def test_the_same_again_trains_and_generates_nothing(
    evaluation: Evaluation, owner: api.Workspace
) -> None:
    images = {
        path: path.stat().st_mtime_ns
        for path in (owner.settings.home / "evaluations" / "images").rglob("*.png")
    }
    stages: list[Progress] = []
    again = api.evaluate(owner, SCENE, images=2, observe=stages.append)
    assert [step.digest for step in again.steps] == [step.digest for step in evaluation.steps]
    assert stages == []
    assert all(path.stat().st_mtime_ns == time for path, time in images.items())


def test_an_interrupted_scene_ends_as_one_that_was_not(workspace: api.Workspace) -> None:
    def interrupt(progress: Progress) -> None:
        if "restore" in progress.stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.evaluate(workspace, SCENE, images=2, paraphrases="none", observe=interrupt)
    resumed = api.evaluate(workspace, SCENE, images=2, paraphrases="none")
    assert [step.states["Cezanne"] for step in resumed.steps] == ["erased", "generates"]
    assert resumed.steps[0].scores[0].role == "forgotten"


def test_the_composition_at_hand_is_one_step(workspace: api.Workspace) -> None:
    api.erase(workspace, ["Picasso", "Cezanne"])
    api.restore(workspace, ["Cezanne"], reason="licence")
    result = api.evaluate(workspace, images=2, paraphrases="none")
    (step,) = result.steps
    roles = {score.concept: score.role for score in step.scores}
    assert result.name == UNNAMED
    assert (roles["Picasso"], roles["Cezanne"], roles["Van Gogh"]) == (
        "forgotten",
        "recovered",
        "regular",
    )
    assert step.digest == api.plan_composition(workspace).digest
    left_out = api.evaluate(
        workspace, images=2, paraphrases="none", selection=api.Selection(without=["Picasso"])
    )
    assert left_out.steps[0].states["Picasso"] == "generates"


def test_a_scene_without_steps_says_how_to_look_at_the_composition(owner: api.Workspace) -> None:
    scene = Scene("Mine", ("Picasso",), (), aliases={"Picasso": ("Malaga's son",)})
    (step,) = api.evaluate(owner, scene, images=2).steps
    assert "Malaga's son" in next(s for s in step.paraphrases if s.form == "aliases").prompts


def test_missed_goals_fail_the_evaluation(owner: api.Workspace) -> None:
    scene = Scene("Strict", NAMES, (), goals={"ordinary LPIPS": -1.0})
    result = api.evaluate(owner, scene, images=2, paraphrases="none")
    assert not result.passed
    assert [goal.name for goal in result.goals] == ["ordinary LPIPS"]


def test_what_cannot_be_registered_is_not_kept(
    owner: api.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise OSError("no")

    def kept() -> set[Path]:
        folder = owner.settings.home / "evaluations"
        return {path for path in folder.glob("*") if path.is_file()}

    before = kept()
    monkeypatch.setattr(owner.registry.measurements, "record", refuse)
    with pytest.raises(OSError, match="no"):
        api.evaluate(owner, Scene("Unkept", ("Picasso",), ()), images=2, paraphrases="none")
    assert kept() == before
    assert "evaluate" not in {
        event.action for event in owner.audit.events() if event.details.get("name") == "Unkept"
    }


def test_older_shifts_come_to_protect_what_is_erased_later(workspace: api.Workspace) -> None:
    names = ("Edvard Munch", "Claude Monet", "Picasso")
    steps = (SceneStep(erase=names[:1]), SceneStep(erase=names[1:2]))
    api.evaluate(workspace, Scene("Later", names, steps), images=2, paraphrases="none")
    (home,) = (workspace.settings.home / "evaluations").glob("later-*/registry.db")
    played = api.open_workspace(type(workspace.settings)(home.parent, "miniature", None))
    assert api.plan_refresh(played) == ()
    assert api.show_concept(played, "Edvard Munch").state.version == 2


def test_what_cannot_be_measured_is_refused(owner: api.Workspace) -> None:
    with pytest.raises(NotFoundError, match="knows none of Edvard Munch"):
        api.evaluate(owner, Scene("Other", ("Edvard Munch",), ()))
    with pytest.raises(InvalidInputError, match="at least 2 images"):
        api.evaluate(owner, SCENE, images=1)
    with pytest.raises(InvalidInputError, match="leave --only and --without out"):
        api.evaluate(owner, SCENE, selection=api.Selection(only=["Picasso"]))
    with pytest.raises(NotFoundError, match="No classifier file"):
        api.evaluate(owner, SCENE, classifier=Path("none.safetensors"))
