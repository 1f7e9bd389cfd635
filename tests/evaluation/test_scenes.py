from __future__ import annotations

from pathlib import Path

import pytest

from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.evaluation.scenes import GOALS, Scene, SceneStep, read_scene

SCENES = Path(__file__).parents[2] / "examples" / "scenes"
START = "name: A\nconcepts: [Cezanne, Picasso]\n"


@pytest.fixture
def scene_file(tmp_path: Path) -> Path:
    return tmp_path / "scene.yaml"


def erased_after(scene: Scene) -> list[set[int]]:
    erased: set[str] = set()
    sets = []
    for step in scene.steps:
        erased = (erased | set(step.erase)) - set(step.restore)
        sets.append({scene.concepts.index(name) for name in erased})
    return sets


def test_the_scenes_of_the_paper_erase_and_restore_what_it_says() -> None:
    one, two, three, four = (read_scene(SCENES / f"scene{n}.yaml") for n in (1, 2, 3, 4))
    assert erased_after(one) == [{0, 1, 2, 3, 4, 5}, {2, 3, 4, 5}, {3, 4, 5}]
    assert erased_after(two) == [{0, 1, 2, 3, 4, 5}, {0, 1, 2, 5}, {0, 1, 2}]
    assert erased_after(three) == [{0, 2, 4}, {4}, {1, 3, 4}, {3, 4}, {3, 4, 5}]
    assert erased_after(four) == [
        {0, 1, 2}, {1, 2}, {1, 2, 3, 4}, {2, 3, 4}, {2, 3, 4, 5}, {3, 4, 5},
    ]  # fmt: skip


def test_the_numbers_of_the_paper_stand_beside_their_steps() -> None:
    scene = read_scene(SCENES / "scene1.yaml")
    assert scene.reference["t1"]["Van Gogh"] == "2.12/90.8/.00"
    assert set(scene.reference["t0"]) == set(scene.concepts)
    assert set(scene.reference) == {"original", "t0", "t1", "t3"}
    assert scene.reference["original"]["Van Gogh"] == "0.00/90.4/.00"


def test_the_page_on_evaluation_repeats_the_papers_ranges() -> None:
    ranges: dict[str, list[float]] = {"forgotten": [], "LPIPS": [], "lost": [], "lost early": []}
    for number in (1, 2, 3, 4):
        scene = read_scene(SCENES / f"scene{number}.yaml")
        ever = {name for step in scene.steps for name in step.erase}
        gone: set[str] = set()
        before: set[str] = set()
        for step in scene.steps:
            gone, before = (gone | set(step.erase)) - set(step.restore), before | set(step.erase)
            for name, cell in scene.reference.get(step.label, {}).items():
                accuracy, lpips = map(float, cell.split("/")[1:])
                if name in gone:
                    ranges["forgotten"].append(accuracy)
                elif name not in before:
                    lost = float(scene.reference["original"][name].split("/")[1]) - accuracy
                    ranges["lost early" if name in ever else "lost"].append(lost)
                    ranges["LPIPS"] += [lpips] * (name not in ever)
    low_high = {key: (min(values), max(values)) for key, values in ranges.items()}
    page = (SCENES.parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert "| {:.0f} to {:.0f}% |".format(*low_high["forgotten"]) in page
    early = low_high["lost early"][1]
    assert "| {:.0f} to {:.0f} points ({:.0f}".format(*low_high["lost"], early) in page
    assert "| {:.2f} to {:.2f} (".format(*low_high["LPIPS"]) in page


def test_what_a_scene_leaves_out_has_defaults(scene_file: Path) -> None:
    scene_file.write_text(START)
    scene = read_scene(scene_file)
    assert (scene.steps, scene.method, scene.goals) == ((), None, GOALS)


def test_a_byte_order_mark_is_no_part_of_the_name(scene_file: Path) -> None:
    scene_file.write_text(START, encoding="utf-8-sig")
    assert read_scene(scene_file).name == "A"


def test_a_goal_replaces_its_default_alone(scene_file: Path) -> None:
    scene_file.write_text(START + "goals: {regular LPIPS: 0.1}\n")
    assert read_scene(scene_file).goals == {**GOALS, "regular LPIPS": 0.1}


def test_a_step_says_what_it_does() -> None:
    assert SceneStep(("A", "B"), ("C",)).action == "erase A, B; restore C"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [{restore: [Picasso]}]", "step 1 restores 'Picasso', which is not erased then"),
        ("steps: [{erase: [Picasso]}, {erase: [Picasso]}]", "is erased already"),
        ("steps: [{erase: [Monet]}]", "names 'Monet', which is not among its concepts"),
        ("steps: [{label: t0}]", "does nothing"),
        ("steps: [{forget: [Picasso]}]", "unknown key 'forget'. Known keys: erase, label, restore"),
        ("steps: {erase: [Picasso]}", "steps must be a list"),
        ("steps: [{erase: Picasso}]", "must be a list"),
        ("steps: [{erase: [Picasso, Picasso]}]", "must be different names"),
        ("sceen: 1", "unknown key 'sceen'"),
        ("images: 1", "images is a whole number from 2 on"),
        ("images: many", "images is a whole number from 2 on"),
        ("kind: music", "kind is 'style' or 'object'"),
        ("goals: {beauty: 1}", "unknown key 'beauty'"),
        ("goals: {regular LPIPS: low}", "is a number"),
        ("aliases: [a]", "must be a mapping"),
        ("options: [\n", "is not YAML"),
    ],
)
def test_what_is_wrong_in_a_scene_is_named(scene_file: Path, text: str, message: str) -> None:
    scene_file.write_text(START + text + "\n")
    with pytest.raises(InvalidInputError, match=message.replace("[", r"\[")):
        read_scene(scene_file)


@pytest.mark.parametrize("text", ["", "concepts: [Picasso]", "name: A", "- 1"])
def test_a_scene_needs_a_name_and_concepts(scene_file: Path, text: str) -> None:
    scene_file.write_text(text)
    with pytest.raises(InvalidInputError):
        read_scene(scene_file)


def test_yaml_cannot_make_objects(scene_file: Path) -> None:
    scene_file.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(InvalidInputError, match="is not YAML"):
        read_scene(scene_file)


def test_a_missing_scene_or_reference_is_said(scene_file: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no scene"):
        read_scene(scene_file)
    scene_file.write_text(START + "reference: {file: none.csv, scene: 1}\n")
    with pytest.raises(NotFoundError, match="which does not exist"):
        read_scene(scene_file)
