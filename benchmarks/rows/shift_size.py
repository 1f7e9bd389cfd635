"""How large the shift of one prompt is, beside what else could be kept."""

from __future__ import annotations

import math

from rows.measure import Line, Setting, under
from rows.world import BASE, layer_weights, world
from shiftreg.checkpoints import save_shift
from shiftreg.checkpoints.base_folder import stored_component
from shiftreg.checkpoints.stored import size_in_bytes
from shiftreg.erasers import ClosedForm
from shiftreg.shift import ConceptShift

CONCEPTS = 5


def measure(setting: Setting) -> list[Line]:
    profile = "svd:0.5" if setting.toy else "exact"
    problem = world(setting, CONCEPTS).problem(0, CONCEPTS, profile, prompts=1)
    weights = layer_weights(setting)
    erasure = ClosedForm().erase(problem, weights)
    shift = ConceptShift(
        concept="a concept",
        aliases=(),
        kind="style",
        method=ClosedForm.name,
        base_digest=BASE,
        text_encoder_digest=BASE,
        support=erasure.support,
        factors=erasure.factors,
        protected=("",),
        protected_digest=BASE,
    )
    path = setting.folder / "one.safetensors"
    save_shift(shift, path, overwrite=True)
    ours = [path.stat().st_size / 1e6]
    path.unlink()
    unet = stored_component(setting.base("float32") / "unet").values()
    whole = sum(size_in_bytes(tensor) for tensor in unet) / 1e6
    coefficients = sum(math.prod(w.shape) // w.shape[1] for w in weights.values())
    reference = 4 * coefficients * len(problem.null_basis) / 1e6
    what = f"shift file of one prompt, float32, rank {shift.rank}"
    return [
        under(8, what, ours, unit="MB"),
        Line(what, ours, "the whole UNet", [whole], unit="MB"),
        Line(what, ours, "the reference's coefficients on the null space", [reference], unit="MB"),
    ]
