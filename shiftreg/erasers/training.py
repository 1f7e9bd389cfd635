"""Gradient descent that goes on, bit for bit, where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from shiftreg.erasers.base import Erasure
from shiftreg.erasers.model import Step, TrainingData

Loss = Callable[[], tuple[Tensor, dict[str, float]]]


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


def train_in_place(
    names: Iterable[str],
    loss: Loss,
    *,
    learning_rate: float,
    iterations: int,
    generator: torch.Generator,
    data: TrainingData,
) -> Erasure:
    """Trains parameters of the base itself, for methods that bind them to nothing.

    Args:
        names: Of the parameters.
        loss: As for :func:`train`.
        learning_rate: Of Adam.
        iterations: Steps.
        generator: As for :func:`train`.
        data: As for :func:`train`; its model has the parameters, and keeps its own values.

    Returns:
        How far they moved, as dense deltas.
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
        learning_rate: Of Adam.
        iterations: Limit of steps.
        generator: Its state is part of what is continued.
        data: Is told of each step, and keeps what an interrupted training continues from.
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
