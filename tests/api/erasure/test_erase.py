"""Erasing end to end on the miniature: what becomes a version, and what is left as it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from shiftreg import api, pipelines
from shiftreg.api.composition.compose import plan_shifts
from shiftreg.api.values import Progress
from shiftreg.compose import merged_weights
from shiftreg.errors import CapacityError, InvalidInputError, NotFoundError
from shiftreg.settings import Settings


def states(workspace: api.Workspace) -> Mapping[str, str]:
    return {state.concept: state.state for state in api.list_concepts(workspace)}


def test_an_erased_concept_becomes_an_active_version_with_its_lineage(
    workspace: api.Workspace,
) -> None:
    (result,) = api.erase(workspace, ["caravaggio"], reason="request 17")
    assert result.statement == "Caravaggio: erased (version 1)"
    assert result.samples is None  # nobody asked for images
    (version,) = workspace.registry.shifts.versions("miniature", "Caravaggio")
    assert version.active
    assert version.reason == "request 17"
    assert {"", "Picasso", "CCS 2024", "watermark SRS-ME"} <= set(version.protected)
    shift = workspace.shift(version)
    assert shift.digest == result.digest
    assert shift.base_digest == workspace.base.digest
    assert result.metrics["max_drift"] <= 1e-5
    (event,) = [e for e in workspace.audit.events() if e.action == "erase"]
    assert event.digests["shift"] == result.digest
    assert states(workspace)["Caravaggio"] == "erased"
    assert states(workspace)["Picasso"] == "generates"


@pytest.mark.erased("Caravaggio")
def test_protected_prompts_keep_their_predictions_and_the_concept_loses_its_own(
    workspace: api.Workspace,
) -> None:
    pipeline = workspace.pipeline
    composition = plan_shifts(workspace, api.plan_composition(workspace))
    weights = merged_weights(pipelines.layer_weights(pipeline.unet), composition)
    prompts = ["", "watermark SRS-ME", "Picasso", "Van Gogh", "Caravaggio"]
    differences = pipelines.noise_difference(
        pipeline, weights, pipelines.encode_prompts(pipeline, prompts)
    )
    assert differences[:4].max() <= 1e-5
    assert differences[4] > 0.05


@pytest.mark.usefixtures("computed_anew")
def test_the_same_command_gives_the_same_shift_as_a_new_version(workspace: api.Workspace) -> None:
    first, second = (api.erase(workspace, ["Picasso"])[0] for _ in range(2))
    assert (first.version, second.version) == (1, 2)
    assert first.digest == second.digest


def test_srs_me_trains_and_logs_every_step(workspace: api.Workspace) -> None:
    seen: list[Progress] = []
    options = {"iterations": 3, "pool_size": 8, "batch_size": 4}
    (result,) = api.erase(
        workspace, ["Picasso"], method="srs-me", options=options, observe=seen.append
    )
    training = [progress for progress in seen if progress.stage == "training Picasso"]
    assert [progress.done for progress in training] == [1, 2, 3]
    assert {"correlation", "momentum_average", "tau"} <= set(training[0].values)
    assert result.metrics["iterations"] == 3
    assert result.metrics["max_drift"] <= 1e-5


@pytest.mark.usefixtures("computed_anew")
def test_srs_me_with_the_same_seed_gives_the_same_shift(workspace: api.Workspace) -> None:
    options = {"iterations": 2, "pool_size": 4, "batch_size": 2}
    one, same, other = (
        api.erase(workspace, ["Picasso"], method="srs-me", options=options, seed=seed)[0].digest
        for seed in (1, 1, 2)
    )
    assert one == same != other


def test_an_interrupted_training_leaves_the_registry_as_it_was(workspace: api.Workspace) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.stage.startswith("training"):
            raise KeyboardInterrupt

    before, options = workspace.audit.events(), {"pool_size": 4, "batch_size": 2}
    with pytest.raises(KeyboardInterrupt):
        api.erase(workspace, ["Picasso"], method="srs-me", options=options, observe=interrupt)
    assert workspace.registry.shifts.concepts("miniature") == ()
    assert workspace.audit.events() == before
    assert states(workspace)["Picasso"] == "generates"


def test_aliases_lose_the_concept_too(workspace: api.Workspace) -> None:
    (plan,) = api.plan_erasures(workspace, ["Picasso"], aliases=["Pablo Picasso"]).plans
    assert "a painting of a church by Pablo Picasso" in plan.prompts
    assert not any("Picasso" in prompt for prompt in (*plan.protected, *plan.preserved))


def test_aliases_of_other_concepts_are_kept_softly(workspace: api.Workspace) -> None:
    api.erase(workspace, ["Picasso"], aliases=["Pablo Picasso"])
    (plan,) = api.plan_erasures(workspace, ["Caravaggio"]).plans
    assert "Picasso" in plan.protected
    assert "Pablo Picasso" not in plan.protected
    assert "a painting of a church by Pablo Picasso" in plan.preserved


def test_protecting_a_prompt_that_names_the_concept_is_pointed_out(
    workspace: api.Workspace,
) -> None:
    (plan,) = api.plan_erasures(workspace, ["Picasso"], protect=["a Picasso church"]).plans
    assert "a Picasso church" not in plan.protected
    assert plan.warnings == (
        "'a Picasso church' names Picasso, so it loses it too and is not protected.",
    )


def test_a_plan_changes_nothing(workspace: api.Workspace) -> None:
    (plan,) = api.plan_erasures(workspace, ["Picasso"]).plans
    assert plan.capacity["free"] == 256 - plan.capacity["rank"]
    assert plan.capacity["predicted_residual"] < 0.01
    assert workspace.registry.shifts.concepts("miniature") == ()


@pytest.mark.erased("Picasso")
def test_concepts_registered_later_make_older_shifts_stale_until_they_are_refreshed(
    workspace: api.Workspace,
) -> None:
    (result,) = api.erase(workspace, ["Rembrandt"])
    assert result.stale == ("Picasso",)
    assert api.plan_refresh(workspace) == (("Picasso", ("Rembrandt",)),)
    (fresh,) = api.refresh(workspace)
    assert fresh.version == 2
    old, new = workspace.registry.shifts.versions("miniature", "Picasso")
    assert "Rembrandt" not in old.protected
    assert "Rembrandt" in new.protected
    assert new.predecessor == old.digest
    assert (old.active, new.active) == (False, True)
    assert api.plan_refresh(workspace) == ()


def test_concepts_erased_together_protect_each_other(workspace: api.Workspace) -> None:
    results = api.erase(workspace, ["Rembrandt", "Vermeer"])
    assert "Vermeer" in results[0].plan.protected
    assert "Rembrandt" in results[1].plan.protected
    assert api.plan_refresh(workspace) == ()


def test_a_stored_version_can_be_made_active_again(workspace: api.Workspace) -> None:
    (first,) = api.erase(workspace, ["Picasso"])
    api.erase(workspace, ["Picasso"], options={"ridge": 0.2})
    api.restore(workspace, ["Picasso"], reason="licence")
    (again,) = api.erase(workspace, ["Picasso@1"], reason="licence ended")
    assert again.digest == first.digest
    assert [v.active for v in workspace.registry.shifts.versions("miniature", "Picasso")] == [
        True,
        False,
    ]


def test_protecting_more_than_the_space_holds_is_refused_with_the_remedy(
    workspace: api.Workspace,
) -> None:
    sentences = [f"a {a} by {b}" for a in workspace.base.subjects for b in ("me", "you", "him")]
    with pytest.raises(CapacityError, match="Protect"):
        api.erase(workspace, ["Picasso"], protect=sentences)
    assert workspace.registry.shifts.concepts("miniature") == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "no method 'magic'"),
        ({"options": {"colour": 1.0}}, "no option 'colour'"),
        ({"options": {"ridge": "much"}}, "of type float"),
        ({"options": {"ridge": -1.0}}, "positive"),
    ],
)
def test_methods_and_options_that_do_not_exist_are_refused(
    workspace: api.Workspace, options: dict[str, object], message: str
) -> None:
    with pytest.raises((InvalidInputError, NotFoundError), match=message):
        api.erase(workspace, ["Picasso"], **options)  # type: ignore[arg-type]


def test_a_name_too_long_for_the_text_encoder_is_refused(workspace: api.Workspace) -> None:
    with pytest.raises(InvalidInputError, match="at most 14 tokens"):
        api.erase(workspace, ["The Master of the Legend of Saint Lucy"])


def test_aliases_belong_to_one_concept(workspace: api.Workspace) -> None:
    with pytest.raises(InvalidInputError, match="one by one"):
        api.erase(workspace, ["Picasso", "Caravaggio"], aliases=["Pablo"])


def test_another_base_with_its_own_structure_can_lose_a_concept(
    home: Path, stable_diffusion_base: Path
) -> None:
    workspace = api.open_workspace(Settings(home, "other", None))
    record = api.register_base(
        workspace,
        str(stable_diffusion_base),
        name="other",
        subjects=["owl"],
        preserved=["an owl"],
        steps=1,
        guidance=1.0,
    )
    assert len(record.layers) == 32
    with pytest.raises(CapacityError):
        api.erase(workspace, ["mo"])


def test_weights_return_bit_for_bit_after_a_block(workspace: api.Workspace) -> None:
    unet = workspace.pipeline.unet
    before = {name: weight.clone() for name, weight in pipelines.layer_weights(unet).items()}
    changed = {name: weight + 1 for name, weight in before.items()}
    with pytest.raises(RuntimeError), pipelines.applied_weights(unet, changed):
        raise RuntimeError
    after = pipelines.layer_weights(unet)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_shift_that_hardly_changes_its_concept_is_kept_and_not_active(
    workspace: api.Workspace,
) -> None:
    (result,) = api.erase(workspace, ["Picasso"], method="uce")
    assert not result.erased
    assert result.statement.startswith("Picasso: not erased: ")
    assert result.metrics["left_in_layers"] > 0.9
    (version,) = workspace.versions("Picasso")
    assert not version.active
    assert states(workspace)["Picasso"] == "generates"
    (forced,) = api.erase(workspace, ["Picasso"], method="uce", force=True)
    assert forced.erased
    assert states(workspace)["Picasso"] == "erased"
    (closed,) = api.erase(workspace, ["Picasso"])
    assert closed.erased
    assert closed.metrics["left_in_layers"] < 0.4
