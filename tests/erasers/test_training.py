"""Training: it can be interrupted at any step, and gives the same bits as if it had not been.

First the descent itself, then what every method that trains has from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shiftreg.erasers import (
    ConceptAblation,
    ErasureProblem,
    Esd,
    ForgetMeNot,
    SrsMe,
    SrsMeFree,
    SrsMeJoint,
    Step,
    TrainingData,
)
from shiftreg.erasers.training import (
    MomentumStop,
    NoisePool,
    everywhere,
    train,
    train_in_place,
)
from shiftreg.errors import InvalidInputError

WANTED = torch.tensor([3.0, -2.0])


def noisy_descent(
    data: TrainingData, iterations: int, stops: list[MomentumStop] | None = None, seed: int = 0
) -> tuple[int, Tensor]:
    """Moves a point towards another one, pushed about by the generator."""
    generator = torch.Generator().manual_seed(seed)
    point = torch.zeros(2, requires_grad=True)

    def loss() -> tuple[Tensor, dict[str, float]]:
        value = (point - WANTED + 0.1 * torch.randn(2, generator=generator)).square().sum()
        for stop in stops or []:
            stop.update(value.item())
        return value, {"loss": value.item()}

    number = train(
        [point],
        loss,
        learning_rate=0.1,
        iterations=iterations,
        generator=generator,
        data=data,
        stops=stops or [],
    )
    return number, point.detach()


def test_the_loss_is_minimised_and_every_step_reported(
    data: TrainingData, steps: list[Step]
) -> None:
    number, point = noisy_descent(data, 150)
    assert number == 150
    assert torch.allclose(point, WANTED, atol=0.2)
    assert [step.number for step in steps] == list(range(1, 151))
    assert {step.limit for step in steps} == {150}
    assert steps[-1].values["loss"] < 0.1 < 10 < steps[0].values["loss"]


@pytest.mark.parametrize("after", [1, 7, 29])
def test_an_interrupted_descent_goes_on_where_it_stood(
    data: TrainingData, steps: list[Step], resumed: Any, after: int
) -> None:
    whole, expected = noisy_descent(data, 30)
    number, point = resumed(lambda own: noisy_descent(own, 30), after)
    assert torch.equal(point, expected)
    assert number == whole == 30
    assert [step.number for step in steps] == list(range(after + 1, 31))


def test_one_that_had_finished_takes_no_further_step(
    data: TrainingData, steps: list[Step], resumed: Any
) -> None:
    _, expected = noisy_descent(data, 5)
    number, point = resumed(lambda own: noisy_descent(own, 5), 5)
    assert (number, steps) == (5, [])
    assert torch.equal(point, expected)


def test_moving_averages_are_continued_too(
    data: TrainingData, steps: list[Step], resumed: Any
) -> None:
    def erase(own: TrainingData) -> tuple[int, MomentumStop]:
        stop = MomentumStop(momentum=0.9, tau=0.3, warmup=2)
        return noisy_descent(own, 500, [stop])[0], stop

    whole, stop = erase(data)
    assert 5 < whole < 500
    number, continued = resumed(erase, 5)
    assert (number, continued) == (whole, stop)
    assert len(steps) == whole - 5


def test_it_ends_when_the_last_of_several_conditions_holds(data: TrainingData) -> None:
    def number(*taus: float) -> int:
        return noisy_descent(data, 500, [MomentumStop(0.5, tau, 2) for tau in taus])[0]

    assert number(0.9) < number(0.1) < 500
    assert number(0.9, 0.1) == number(0.1, 0.9) == number(0.1)


def test_the_average_starts_at_the_first_value_and_forgets_it_slowly() -> None:
    stop = MomentumStop(momentum=0.75, tau=0.5, warmup=0)
    for value in (8.0, 4.0, 0.0):
        stop.update(value)
    assert stop.first == 8.0
    assert stop.average == 0.75 * (0.75 * 8.0 + 0.25 * 4.0)


def test_the_condition_holds_at_tau_of_the_first_value_once_the_warm_up_is_over() -> None:
    stop = MomentumStop(momentum=0.0, tau=0.5, warmup=3)
    stop.update(8.0)
    stop.update(4.5)
    assert not stop.reached(100)
    stop.update(4.0)
    assert stop.reached(4)
    assert not stop.reached(3)


def test_training_in_place_gives_back_what_moved_and_leaves_the_model_alone(
    data: TrainingData,
) -> None:
    model: Any = data.model
    base = model.values["skip.bias"]
    before = base.clone()

    def loss() -> tuple[Tensor, dict[str, float]]:
        return (model.values["skip.bias"] - 1).square().sum(), {}

    erasure = train_in_place(
        ["skip", "skip.bias"],
        loss,
        learning_rate=0.1,
        iterations=200,
        generator=torch.Generator(),
        data=data,
    )
    assert torch.allclose(before + erasure.dense["skip.bias"], torch.ones(16), atol=1e-2)
    assert "skip" not in erasure.dense, "it did not move"
    assert erasure.support.shape == (0, 24)
    assert erasure.factors == {}
    assert erasure.metrics == {"iterations": 200.0}
    assert model.values["skip.bias"] is base
    assert torch.equal(base, before)


# What every method that trains has from it.

QUICK: dict[str, Any] = {"iterations": 6, "pool_size": 12, "batch_size": 3, "learning_rate": 0.01}
CROSS_ATTENTION = {"a.to_k", "a.to_v", "a.to_q", "a.to_out"}
KEYS_AND_VALUES = {"a.to_k", "a.to_v"}
METHODS = {
    "srs-me": (SrsMe(**QUICK), KEYS_AND_VALUES),
    "srs-me-joint": (SrsMeJoint(**QUICK), KEYS_AND_VALUES),
    "srs-me-free": (SrsMeFree(**QUICK), CROSS_ATTENTION),
    "esd-x": (Esd(**QUICK), CROSS_ATTENTION),
    "esd-u": (Esd(**QUICK, layers="u"), {"skip", "skip.bias"}),
    "concept-ablation": (ConceptAblation(**QUICK), KEYS_AND_VALUES),
    "forget-me-not": (ForgetMeNot(**QUICK), {"a.to_k", "a.to_q"}),  # maps see nothing else
}
every_method = pytest.mark.parametrize("method", METHODS)


@every_method
def test_only_the_parameters_that_it_claims_change(
    method: str, problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData
) -> None:
    eraser, claimed = METHODS[method]
    erasure = eraser.erase(problem, weights, data)
    assert {*erasure.factors, *erasure.dense} == claimed
    assert erasure.metrics["iterations"] == 6
    assert bool(erasure.dense) != eraser.separable


@every_method
def test_the_base_is_left_bit_for_bit(
    method: str, problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData
) -> None:
    model: Any = data.model
    before = {name: value.clone() for name, value in model.values.items()}
    METHODS[method][0].erase(problem, weights, data)
    assert all(torch.equal(model.values[name], value) for name, value in before.items())
    assert not any(value.requires_grad for value in model.values.values())


@every_method
def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(
    method: str,
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    data: TrainingData,
    same_bits: Callable[..., None],
) -> None:
    eraser, _ = METHODS[method]
    one = eraser.erase(problem, weights, data, seed=0)
    torch.manual_seed(99)  # nothing is drawn from the generator of everybody
    same_bits(one, eraser.erase(problem, weights, data, seed=0))
    with pytest.raises(AssertionError):
        same_bits(one, eraser.erase(problem, weights, data, seed=1))


@every_method
def test_interrupted_and_continued_it_gives_the_same_bits(
    method: str,
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    data: TrainingData,
    steps: list[Step],
    resumed: Any,
    same_bits: Callable[..., None],
) -> None:
    eraser, _ = METHODS[method]
    whole = eraser.erase(problem, weights, data)
    continued = resumed(lambda own: eraser.erase(problem, weights, own), 4)
    same_bits(continued, whole)
    assert continued.metrics == whole.metrics
    assert [step.number for step in steps] == [5, 6]


@every_method
def test_the_base_is_left_bit_for_bit_by_an_interruption_too(
    method: str,
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    data: TrainingData,
) -> None:
    model: Any = data.model
    before = {name: value.clone() for name, value in model.values.items()}

    def interrupt(step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        METHODS[method][0].erase(problem, weights, replace(data, observe=interrupt))
    assert all(torch.equal(model.values[name], value) for name, value in before.items())


@every_method
def test_without_images_there_is_nothing_to_train_on(
    method: str, problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData
) -> None:
    nothing = replace(data, latents=data.latents[:0], pair_index=())
    for missing in (None, nothing):
        with pytest.raises(InvalidInputError, match="trains on latents of the concept"):
            METHODS[method][0].erase(problem, weights, missing)


@every_method
@pytest.mark.parametrize("field", ["learning_rate", "iterations", "batch_size", "pool_size"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_hyperparameters_that_make_no_sense_are_refused(
    method: str, field: str, value: float
) -> None:
    with pytest.raises(InvalidInputError, match=field):
        replace(METHODS[method][0], **{field: value})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_row_keeps_the_prompt_of_its_image(data: TrainingData) -> None:
    # Images so bright that no noise hides which one a row shows.
    bright = torch.arange(1.0, 7).reshape(6, 1, 1, 1) * 1e6
    prompts = (2, 0, 1, 1, 0, 2)
    shown = replace(data, latents=bright.expand(-1, 1, 4, 4), pair_index=prompts)
    pool = NoisePool.draw(shown, 50, generator())
    share = (pool.timesteps / 1000).reshape(-1, 1, 1, 1)
    images = (pool.noisy / (1 - share) / 1e6).mean(dim=(1, 2, 3)).round().long() - 1
    assert set(images.tolist()) == set(range(6))
    assert pool.prompts.tolist() == [prompts[image] for image in images.tolist()]


def test_the_noise_is_what_the_base_predicts_for_the_row_s_prompt(
    data: TrainingData, problem: ErasureProblem
) -> None:
    references = (problem.prompt_embeds, problem.anchor_embeds)
    pool = NoisePool.draw(data, 40, generator(), references)  # two chunks and a half
    for embeds, noise in zip(references, pool.noise, strict=True):
        expected = data.model.predict(pool.noisy, pool.timesteps, embeds[pool.prompts])
        assert torch.allclose(noise, expected, atol=1e-6)
        assert not noise.requires_grad
    assert not torch.equal(*pool.noise)


def test_without_references_the_base_predicts_nothing(data: TrainingData) -> None:
    model: Any = data.model
    assert NoisePool.draw(data, 20, generator()).noise == ()
    assert model.passes == 0


def test_timesteps_are_spread_over_the_whole_schedule(data: TrainingData) -> None:
    timesteps = NoisePool.draw(data, 2000, generator()).timesteps
    assert timesteps.dtype == torch.int64
    assert 0 <= timesteps.min() < 20
    assert 980 < timesteps.max() < 1000
    assert 450 < timesteps.float().mean() < 550


def test_the_generator_alone_decides(data: TrainingData) -> None:
    everybody = torch.get_rng_state()
    one, same, other = (NoisePool.draw(data, 9, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), everybody)
    assert torch.equal(one.noisy, same.noisy)
    assert not torch.equal(one.noisy, other.noisy)


def test_a_sample_has_no_row_twice_and_no_more_than_there_are(data: TrainingData) -> None:
    pool = NoisePool.draw(data, 10, generator())
    random = generator()
    first, second = pool.sample(8, random), pool.sample(8, random)
    assert len(set(first.tolist())) == 8
    assert not torch.equal(first, second)
    assert sorted(pool.sample(99, random).tolist()) == list(range(10))


def test_nothing_to_noise_is_refused(data: TrainingData) -> None:
    for missing in (None, replace(data, latents=torch.zeros(0, 1, 4, 4), pair_index=())):
        with pytest.raises(InvalidInputError, match="Generate some first"):
            NoisePool.draw(missing, 4, generator())


def test_one_prompt_stands_for_every_prompt(problem: ErasureProblem) -> None:
    reference = everywhere(problem, problem.empty_embeds)
    assert reference.shape == problem.prompt_embeds.shape
    assert all(torch.equal(embeds, problem.empty_embeds) for embeds in reference)
