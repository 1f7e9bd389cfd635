"""What an erasure costs without any attack, on ordinary prompts and on paraphrases of others."""

from __future__ import annotations

from shiftreg import api
from shiftreg.api.values import ErasureResult


def erasure_costs(workspace: api.Workspace, erased: ErasureResult, images: int) -> dict[str, float]:
    """Evaluates the active shifts, of which there is one.

    Args:
        workspace: The registry's.
        erased: The concept's erasure.
        images: Images a prompt.
    """
    concept = erased.plan.concept
    (step,) = api.evaluate(workspace, images=images, paraphrases="all").steps
    held_out = [w for w in step.paraphrases if w.form == "held-out prompts"]
    return {
        "seconds": erased.metrics["seconds"],
        "max drift": erased.metrics["max_drift"],
        "ordinary LPIPS": step.ordinary.value,
        "others' held-out LPIPS": max(w.lpips.value for w in held_out if w.role != "forgotten"),
        "detected by name": next(s for s in step.scores if s.concept == concept).accuracy.value,
        "detected in held-out prompts": next(
            w.after.value for w in held_out if w.concept == concept and w.after is not None
        ),
    }
