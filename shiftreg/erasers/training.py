"""Training: noised images of a concept, and gradient descent that can be interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.erasers.base import Checked, Erasure
from shiftreg.erasers.model import NoiseModel, Step, TrainingData
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.errors import InvalidInputError

TIMESTEPS = 1000
_BATCH = 16
Loss = Callable[[], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class NoisePool:
    """Noised latents with the frozen base's predictions, computed once.

    The base never changes, so its predictions for a fixed pool need no second forward pass in
    every step.

    Attributes:
        noisy: ``x_t (n, C, h, w)``.
        timesteps: ``t (n,)``.
        prompts: ``(n,)``, which prompt of the problem each image shows.
        noise: One ``(n, C, h, w)`` for each set of references.
    """

    noisy: Tensor
    timesteps: Tensor
    prompts: Tensor
    noise: tuple[Tensor, ...]

    @classmethod
    @torch.no_grad()
    def draw(
        cls,
        data: TrainingData | None,
        size: int,
        generator: torch.Generator,
        references: Sequence[Tensor] = (),
    ) -> NoisePool:
        """Noises images at random timesteps.

        Args:
            size: Noised latents to draw.
            generator: Of images, timesteps and noise.
            references: Each ``(prompts, L, d_in)``: what to predict the noise for, by prompt.

        Raises:
            InvalidInputError: No training data.
        """
        if data is None or len(data.latents) == 0:
            raise InvalidInputError(
                "This method trains on latents of the concept, and got none. Generate some first."
            )
        picks = torch.randint(len(data.latents), (size,), generator=generator)
        latents = data.latents[picks]
        timesteps = torch.randint(TIMESTEPS, (size,), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        noisy = data.model.noised(latents, timesteps, noise)
        prompts = torch.tensor(data.pair_index)[picks]
        model = data.model

        def predict(embeds: Tensor) -> Tensor:
            parts = (part.split(_BATCH) for part in (noisy, timesteps, embeds[prompts]))
            return torch.cat([model.predict(*chunk) for chunk in zip(*parts, strict=True)])

        return cls(noisy, timesteps, prompts, tuple(predict(embeds) for embeds in references))

    def sample(self, size: int, generator: torch.Generator) -> Tensor:
        """Picks ``size`` different rows at random, ``(size,)``."""
        return torch.randperm(len(self.noisy), generator=generator)[:size]


def everywhere(problem: ErasureProblem, embeds: Tensor) -> Tensor:
    """One prompt's ``(L, d_in)`` as a reference for every prompt, ``(prompts, L, d_in)``."""
    return embeds.expand(len(problem.prompt_embeds), -1, -1)


@dataclass
class MomentumStop:
    """Ends a training when a moving average has fallen to a share of its first value.

    Source: SRS-ME, momentum stopping: ``m_n = alpha m_(n-1) + (1 - alpha) L``.

    Attributes:
        momentum: ``alpha``.
        tau: The share.
        warmup: Steps before it may end.
        first: The first value.
        average: ``m_n``.
    """

    momentum: float
    tau: float
    warmup: int
    first: float = 0.0
    average: float = 0.0

    def update(self, value: float) -> None:
        """Takes in the value of one more step."""
        if self.first == 0.0:
            self.first = self.average = value
        else:
            self.average = self.momentum * self.average + (1 - self.momentum) * value

    def reached(self, step: int) -> bool:
        """Whether no further step is needed."""
        return step > self.warmup and self.average <= self.tau * self.first


@dataclass(frozen=True)
class InPlaceEraser(Checked):
    """A method that trains the base's own parameters, bound to no null space.

    A subclass says what the frozen base is to predict (:meth:`references`), what is trained
    (:meth:`trained`; the cross-attentions by default) and the loss of a batch (:meth:`loss`).

    Attributes:
        learning_rate: Of Adam.
        iterations: Steps.
        batch_size: Noised latents a step.
        pool_size: Noised latents whose frozen predictions are computed once.
    """

    trains: ClassVar[bool] = True
    separable: ClassVar[bool] = False
    recoverable: ClassVar[bool] = True

    learning_rate: float = 1e-5
    iterations: int = 1000
    batch_size: int = 4
    pool_size: int = 128

    def references(self, problem: ErasureProblem) -> tuple[Tensor, ...]:
        """Embeddings ``(prompts, L, d_in)`` that the frozen base predicts the noise for."""
        return ()

    def trained(self, model: NoiseModel, weights: Mapping[str, Tensor]) -> Iterable[str]:
        """Names of the parameters to train; ``weights`` are the layers that shifts change."""
        return model.cross_attention

    def loss(
        self, problem: ErasureProblem, model: NoiseModel, pool: NoisePool, rows: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss of some rows ``(B,)`` of the pool, and values to show."""
        raise NotImplementedError

    def erase(
        self,
        problem: ErasureProblem,
        weights: Mapping[str, Tensor],
        data: TrainingData | None,
        seed: int = 0,
    ) -> Erasure:
        """Trains; see ``Eraser``."""
        generator = torch.Generator().manual_seed(seed)
        pool = NoisePool.draw(data, self.pool_size, generator, self.references(problem))
        assert data is not None  # the pool refuses it
        model = data.model
        return train_in_place(
            self.trained(model, weights),
            lambda: self.loss(problem, model, pool, pool.sample(self.batch_size, generator)),
            learning_rate=self.learning_rate,
            iterations=self.iterations,
            generator=generator,
            data=data,
        )


def train_in_place(
    names: Iterable[str],
    loss: Loss,
    *,
    learning_rate: float,
    iterations: int,
    generator: torch.Generator,
    data: TrainingData,
) -> Erasure:
    """Trains named parameters of the base itself; see :func:`train`.

    Returns:
        How far they moved, as dense deltas; the model keeps its own values.
    """
    with data.model.trainable(names) as trained:
        steps = train(
            list(trained.parameters.values()),
            loss,
            learning_rate=learning_rate,
            iterations=iterations,
            generator=generator,
            data=data,
        )
        width = next(iter(data.model.weights.values())).shape[1]
        return Erasure(
            torch.zeros(0, width), dense=trained.deltas(), metrics={"iterations": float(steps)}
        )


def train(
    parameters: Sequence[Tensor],
    loss: Loss,
    *,
    learning_rate: float,
    iterations: int,
    generator: torch.Generator,
    data: TrainingData,
    stops: Sequence[MomentumStop] = (),
) -> int:
    """Minimises a loss with Adam.

    Args:
        parameters: To train, in place.
        loss: Draws a batch with ``generator`` and gives its loss, and values to show; it updates
            the ``stops``.
        iterations: Limit of steps.
        generator: Its state is part of what is continued.
        data: Notified of each step; keeps what an interrupted training continues from.
        stops: The training ends when all are reached.

    Returns:
        The number of steps, those before an interruption included.
    """
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    step = 0
    if state := data.checkpoints.load():
        step = state["step"]
        with torch.no_grad():
            for parameter, kept in zip(parameters, state["parameters"], strict=True):
                parameter.copy_(kept)
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        for stop, kept in zip(stops, state["stops"], strict=True):
            stop.first, stop.average = kept["first"], kept["average"]

    def snapshot() -> dict[str, object]:
        return {
            "step": step,
            "parameters": [parameter.detach() for parameter in parameters],
            "optimizer": optimizer.state_dict(),
            "generator": generator.get_state(),
            "stops": [asdict(stop) for stop in stops],
        }

    while step < iterations and not (stops and all(stop.reached(step) for stop in stops)):
        value, values = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        step += 1
        data.checkpoints.save(snapshot)
        data.observe(Step(step, iterations, values))
    return step
