"""Switching a loaded model between compositions, in place and in milliseconds.

The parameters and their storages stay the same objects: compiled graphs, captured CUDA graphs and
optimizers go on with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from shiftreg.errors import IncompatibleError, InvalidInputError
from shiftreg.pipelines.families import network_of

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_COMPILED = "_orig_mod."  # torch.compile's wrapper, within the names of what it wraps


class LiveComposer:
    """Puts weights into a model, and the base's back bit for bit.

    Two compositions whose weights were computed before are switched at the price of copies alone::

        live = LiveComposer(pipeline)
        live.switch(api.composition_weights(workspace, api.Selection(without=["Picasso"])))

    One composer a model: another one would take what this one applied for the base. A model that
    generates in one thread must not be switched by another.

    Args:
        pipeline: A pipeline, whose UNet or transformer is switched, or any model; it holds the
            base's weights.
        keep_on: The device to keep the base's weights on, such as "cpu"; their own by default.
    """

    def __init__(
        self, pipeline: DiffusionPipeline | nn.Module, *, keep_on: torch.device | str | None = None
    ) -> None:
        model = pipeline if isinstance(pipeline, nn.Module) else network_of(pipeline)
        self._modules = {name.replace(_COMPILED, ""): m for name, m in model.named_modules()}
        self._keep_on = keep_on
        self._kept: dict[str, Tensor] = {}
        self._applied: dict[str, Tensor] = {}

    def base(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The base's values of parameters, whatever is applied now; they must not be changed.

        Args:
            names: As shifts give them: a weight by its module, others by their full name.

        Raises:
            IncompatibleError: There is no such parameter, or it cannot be switched.
        """
        kept = {}
        for name in names:
            if name not in self._kept:
                own = self._parameter(name).detach()
                self._kept[name] = own.to(device=self._keep_on, copy=True)
            kept[name] = self._kept[name]
        return kept

    def switch(self, weights: Mapping[str, Tensor]) -> None:
        """Applies weights in place of whatever is applied now; the others become the base's.

        A tensor that is applied already is not copied again, so tensors must not be changed once
        they were given.

        Args:
            weights: Parameter -> its value, as ``compose.merged_weights`` returns it; cast once.

        Raises:
            IncompatibleError: The model lacks a parameter, holds it in another shape, or holds it
                in a way that cannot be changed in place: offloaded, quantised, fused.
            InvalidInputError: A value does not fit into the model's dtype.
        """
        new = {n: weight for n, weight in weights.items() if weight is not self._applied.get(n)}
        self._check_offloading()
        for name, weight in new.items():
            self._check(name, weight)
        gone = self.base(name for name in self._applied if name not in weights)
        before = self.base(new) | self._applied
        values = new | gone
        try:
            self._copy(values)
        except BaseException:
            self._copy({name: before[name] for name in values})
            raise
        self._applied = dict(weights)

    def restore(self) -> None:
        """Gives the base back, bit for bit."""
        self.switch({})

    @contextmanager
    def composed(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Applies weights for a block; then, or after an exception, what was applied before.

        Raises:
            IncompatibleError: As :meth:`switch`.
            InvalidInputError: As :meth:`switch`.
        """
        before = self._applied
        self.switch(weights)
        try:
            yield
        finally:
            self.switch(before)

    @torch.no_grad()
    def _copy(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self._parameter(name).copy_(value)

    def _check_offloading(self) -> None:
        """Refuses diffusers' group offloading, whose hooks may sit on any module of the model."""
        hooks = (vars(module).get("_diffusers_hook") for module in self._modules.values())
        if any(hook and "group_offloading" in hook.hooks for hook in hooks):
            raise IncompatibleError(
                "The model is offloaded in groups, which exchange its weights for copies of their "
                "own, so it cannot be switched in place. Load it without enable_group_offload()."
            )

    def _check(self, name: str, weight: Tensor) -> None:
        parameter = self._parameter(name)
        if weight.shape != parameter.shape:
            raise IncompatibleError(
                f"The weight for {name} has shape {tuple(weight.shape)}, and the model has "
                f"{tuple(parameter.shape)} there. Use shifts that were made for this base."
            )
        # The wider dtypes hold whatever a shift can be.
        if parameter.dtype == torch.float16 != weight.dtype and weight.numel():
            largest = max(abs(float(end)) for end in weight.aminmax())
            if not largest <= torch.finfo(torch.float16).max:
                raise InvalidInputError(
                    f"{name}: values up to {largest:g} do not fit into torch.float16. Load the "
                    "pipeline in bfloat16 or float32."
                )

    def _parameter(self, name: str) -> nn.Parameter:
        """Finds a parameter that can be changed in place.

        It is looked up each time: moving or offloading a model may exchange it.
        """
        owner, attribute = name, "weight"
        if owner not in self._modules:
            owner, _, attribute = name.rpartition(".")
        parameter = getattr(self._modules.get(owner), attribute, None)
        if not isinstance(parameter, nn.Parameter):
            raise IncompatibleError(
                f"The model has no parameter '{name}', which a composition changes. Use shifts "
                "that were made for this base."
            )
        parent = self._modules.get(owner.rpartition(".")[0])
        if why := _obstacle(parent, parameter):
            raise IncompatibleError(f"{name} cannot be switched in place: {why}")
        return parameter


def _obstacle(parent: nn.Module | None, parameter: nn.Parameter) -> str:
    """Why a parameter cannot be changed in place, and the remedy; nothing if it can."""
    if parameter.is_meta:
        return (
            "it is offloaded, and has values only while its layer runs. Load the pipeline without "
            "sequential offloading; enable_model_cpu_offload() is fine."
        )
    # bitsandbytes, torchao, GGUF and others all bring a class of their own.
    if type(parameter) is not nn.Parameter or parameter.dtype not in _DTYPES:
        kind = type(parameter).__name__
        return (
            f"it is quantised or sharded ({kind}, {parameter.dtype}). Load the pipeline in "
            "float32, float16 or bfloat16."
        )
    # A UNet that is unfused keeps the mark and takes another processor; newer models drop the mark.
    marked = getattr(parent, "fused_projections", False)
    processor = type(getattr(parent, "processor", None)).__name__
    if marked and ("Fused" in processor or hasattr(parent, "unfuse_projections")):
        return "the attention uses a fused copy of it. Call unfuse_qkv_projections() first."
    return ""
