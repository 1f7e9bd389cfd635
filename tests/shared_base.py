"""The miniature that workspaces of one process share, and what has been computed with it.

Generating, comparing noise predictions and rounding are most of what tests wait for, and
give the same for the same arguments: what one test has computed, the next one gets. That they do
give the same is said by tests with the fixture ``computed_anew``, in which nothing is kept.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

from shiftreg import miniature, pipelines
from shiftreg.api.loaded_base import LoadedBase
from shiftreg.checkpoints.stored import raw_bytes
from shiftreg.pipelines.images import _BATCH as IMAGES_AT_ONCE
from shiftreg.rounding import ErrorCompensation

if TYPE_CHECKING:
    from shiftreg.pipelines import Pipeline

T = TypeVar("T")
MOST_RESULTS = 1000


class SharedBase:
    """The miniature that a process has loaded, until a test changes it for good.

    Attributes:
        keeps: Whether what is computed is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        """Starts with nothing.

        Args:
            folder: Where the processes of a parallel run find what others have computed.
        """
        self.keeps = True
        self._folder = folder
        self._pipeline: Pipeline | None = None
        self._structure: list[object] = []
        self._states: list[tuple[int, int]] = []
        self._results: OrderedDict[str, Any] = OrderedDict()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Takes the place of what loads and computes, for a block."""
        load = LoadedBase.__dict__["pipeline"].func
        generate, compare = pipelines.generate, pipelines.noise_difference
        round_weight = ErrorCompensation.rounded

        def loaded(base: LoadedBase) -> Pipeline:
            if base.folder != miniature.BASE_FOLDER:
                return load(base)
            if self._pipeline is None or self._changes(self._pipeline) != {}:
                self._pipeline = load(base)
                modules = _modules(self._pipeline)
                self._structure = _structure(self._pipeline, modules)
                self._states = _states(_weights(modules))
            return self._pipeline

        def generated(
            pipeline: Pipeline,
            prompts: Sequence[str] | Tensor,
            seeds: Sequence[int],
            *,
            observe: Callable[[int], None] | None = None,
            **options: Any,
        ) -> Any:
            if not self.keeps or self._changes(pipeline) is None:
                return generate(pipeline, prompts, seeds, observe=observe, **options)
            what = ["generate", prompts, list(seeds), options]
            images = self._once(
                pipeline, what, lambda: generate(pipeline, prompts, seeds, **options)
            )
            for start in range(0, len(prompts), IMAGES_AT_ONCE) if observe else ():
                observe(min(start + IMAGES_AT_ONCE, len(prompts)))  # type: ignore[misc]
            return images

        def compared(pipeline: Pipeline, *inputs: Any, **options: Any) -> Tensor:
            what = ["noise", inputs, options]
            return self._once(pipeline, what, lambda: compare(pipeline, *inputs, **options))

        def rounded(compensation: ErrorCompensation, *inputs: Any, **options: Any) -> Any:
            what = ["round", vars(compensation), inputs, options]
            return self._result(what, lambda: round_weight(compensation, *inputs, **options))

        pipeline = cached_property(loaded)
        pipeline.__set_name__(LoadedBase, "pipeline")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LoadedBase, "pipeline", pipeline)
            patch.setattr(pipelines, "generate", generated)
            patch.setattr(pipelines, "noise_difference", compared)
            patch.setattr(ErrorCompensation, "rounded", rounded)
            yield

    @contextmanager
    def keeping_nothing(self) -> Iterator[None]:
        """Lets everything be computed anew, for a block."""
        self.keeps = False
        try:
            yield
        finally:
            self.keeps = True

    def _once(self, pipeline: Pipeline, what: object, compute: Callable[[], T]) -> T:
        changes = self._changes(pipeline) if self.keeps else None
        return compute() if changes is None else self._result([changes, what], compute)

    def _result(self, what: object, compute: Callable[[], T]) -> T:
        if not self.keeps:
            return compute()
        hasher = hashlib.sha256()
        for piece in _pieces(what):
            hasher.update(piece)
        key = hasher.hexdigest()
        if key not in self._results:
            self._results[key] = self._of_any_process(key, compute)
        self._results.move_to_end(key)
        if len(self._results) > MOST_RESULTS:
            self._results.popitem(last=False)
        result: T = deepcopy(self._results[key])
        return result

    def _of_any_process(self, key: str, compute: Callable[[], T]) -> T:
        if self._folder is None:
            return compute()
        path = self._folder / key
        if path.exists():
            result: T = torch.load(path, weights_only=False)
            return result
        result = compute()
        partial = path.with_name(f"{key}.{os.getpid()}")
        torch.save(result, partial)
        partial.rename(path)
        return result

    def _changes(self, pipeline: Pipeline) -> dict[int, Tensor] | None:
        """The weights that are applied to the miniature; None if anything else is changed."""
        if pipeline is not self._pipeline:
            return None
        modules = _modules(pipeline)
        if _structure(pipeline, modules) != self._structure:
            return None
        weights = _weights(modules)
        states = zip(_states(weights), self._states, strict=True)
        return {i: weights[i].data for i, (now, before) in enumerate(states) if now != before}


def _modules(pipeline: Pipeline) -> list[nn.Module]:
    """All modules of all parts; as ``nn.Module.modules`` finds them, in a tenth of the time."""
    found = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    for module in found:  # which grows
        found += [child for child in module._modules.values() if child is not None]
    return found


def _weights(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [w for module in modules for w in module._parameters.values() if w is not None]


def _structure(pipeline: Pipeline, modules: Sequence[nn.Module]) -> list[object]:
    """Changes with whatever exchanges or hooks a part, or puts another parameter in its place."""
    return [
        *(id(part) for part in pipeline.components.values()),
        *(
            (
                id(module),
                module.training,
                len(module._forward_hooks),
                len(module._forward_pre_hooks),
            )
            for module in modules
        ),
        *(id(weight) for weight in _weights(modules)),
    ]


def _states(weights: Sequence[nn.Parameter]) -> list[tuple[int, int]]:
    """Changes with whatever writes to a weight; none is read for it."""
    return [(weight._version, weight.data_ptr()) for weight in weights]


def _pieces(value: object) -> Iterator[bytes | memoryview]:
    """The bytes of nested values, such that different ones differ."""
    if isinstance(value, Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        yield raw_bytes(value.detach().clone(memory_format=torch.contiguous_format))
    elif isinstance(value, Mapping):
        yield from _pieces([[name, value[name]] for name in sorted(value)])
    elif isinstance(value, list | tuple):
        yield f"{len(value)} of".encode()
        for item in value:
            yield from _pieces(item)
    else:
        yield f"{value!r}\0".encode()
