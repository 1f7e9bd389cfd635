"""How what is measured grows with the number of concepts; and the plot."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from statistics import median

import torch
from diffusers import UNet2DConditionModel

from rows.measure import Setting, Times, race
from rows.world import BASE, composed, layer_weights, shifts, world
from shiftreg.checkpoints import export_checkpoint, recipe_path_of
from shiftreg.compose import Composition, merged_weights
from shiftreg.erasers import ClosedForm
from shiftreg.pipelines import LiveComposer

COUNTS = (1, 3, 9, 30, 100)
Series = dict[str, dict[int, float]]


def grow(setting: Setting) -> Series:
    """Seconds of processor time and megabytes, by number of concepts."""
    counts = COUNTS[:2] if setting.toy else COUNTS
    profile = "svd:0.5" if setting.toy else "content:0.01"
    seen, weights = world(setting, counts[-1]), layer_weights(setting)
    folder = setting.base("float16")
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", dtype=torch.float16)
    target = setting.folder / "grown.safetensors"
    series: Series = {}

    def write(count: int) -> None:
        export_checkpoint(folder, composed(setting, "float16", count), target, {}, overwrite=True)

    def note(name: str, count: int, value: float) -> None:
        series.setdefault(name, {})[count] = value

    for count in counts:
        applied = shifts(setting, count)
        live = LiveComposer(unet)
        merged = merged_weights(live.base(applied[0].layers), Composition.of(BASE, applied))
        turns = cycle([merged, {}])
        problem = seen.problem(0, count, profile)
        times: dict[str, Times] = race(
            setting,
            {
                "null-space basis": lambda c=count: seen.problem(0, c, profile),
                "closed-form erasure of one more": lambda p=problem: ClosedForm().erase(p, weights),
                "compose and write 2 GB": lambda c=count: write(c),
                "live switch": lambda live=live, turns=turns: live.switch(next(turns)),
            },
            repeats=min(3, setting.repeats),
        )
        live.restore()
        for name, measured in times.items():
            note(name, count, median(measured.processor))
        numbers = sum(t.numel() for shift in applied for t in shift.tensors().values())
        note("all shifts, MB", count, numbers * 4 / 1e6)
    target.unlink()
    recipe_path_of(target).unlink()
    return series


def plot(series: Series, target: Path) -> None:
    """Draws both: seconds on the left, megabytes on the right."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (seconds, sizes) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name, points in series.items():
        axis = sizes if name.endswith("MB") else seconds
        axis.plot(list(points), list(points.values()), marker="o", label=name)
    for axis, title in ((seconds, "processor time, seconds"), (sizes, "size, MB")):
        axis.set(xscale="log", yscale="log", xlabel="concepts", title=title)
        ticks = list(next(iter(series.values())))
        axis.set_xticks(ticks, map(str, ticks))
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=8
        )
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=110)
    plt.close(figure)
