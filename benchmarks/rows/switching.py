"""Switching a live UNet between two compositions, beside peft's adapters."""

from __future__ import annotations

from itertools import cycle

import torch
from diffusers import UNet2DConditionModel

from rows.measure import Line, Setting, at_most, per_call, race
from rows.peers import peft_state
from rows.world import BASE, shifts
from shiftreg.compose import Composition, merged_weights
from shiftreg.pipelines import LiveComposer

COUNT, CALLS = 9, 10


def measure(setting: Setting) -> list[Line]:
    count = 2 if setting.toy else COUNT
    folder = setting.base("float16") / "unet"
    every = shifts(setting, count)
    unet = UNet2DConditionModel.from_pretrained(folder, dtype=torch.float16)
    live = LiveComposer(unet)
    base = live.base(every[0].layers)
    both = cycle([merged_weights(base, Composition.of(BASE, s)) for s in (every, every[1:])])
    times = race(setting, {"ours": per_call(lambda: live.switch(next(both)), CALLS)})
    live.restore()
    for number, shift in enumerate(every):
        state = peft_state(shift, torch.float16)
        unet.load_lora_adapter(state, adapter_name=f"a{number}", prefix="unet")
    names = [f"a{number}" for number in range(count)]
    sets = cycle([names, names[1:]])
    times |= race(setting, {"set": per_call(lambda: unet.set_adapters(next(sets)), CALLS)})

    def fuse() -> None:
        unet.fuse_lora(adapter_names=next(sets))
        unet.unfuse_lora()

    times |= race(setting, {"fuse": fuse})
    # A server waits for the clock; copies are shared out to all cores, and scales are not.
    ours = [seconds / CALLS for seconds in times["ours"].wall]
    chosen = [seconds / CALLS for seconds in times["set"].wall]
    processor = {"ours": [seconds / CALLS for seconds in times["ours"].processor]}
    processor["set_adapters"] = [seconds / CALLS for seconds in times["set"].processor]
    what = f"switch a live UNet in float16, 1 of {count} left out or not"
    return [
        at_most(1, what, ours, "peft `set_adapters`", chosen, others=processor),
        at_most(1, what, ours, "peft `fuse_lora` and `unfuse_lora`", times["fuse"].wall),
    ]
