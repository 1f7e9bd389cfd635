"""Null space of protected prompts: singular values beside elimination and scipy."""

from __future__ import annotations

import scipy.linalg
import sympy
import torch

from rows.measure import Line, Setting, Times, per_call, race, under
from shiftreg.subspace import null_space_basis

CALLS = 20


def measure(setting: Setting) -> list[Line]:
    generator = torch.Generator().manual_seed(0)

    def rows(count: int, width: int) -> torch.Tensor:
        return torch.randn(count, width, generator=generator, dtype=torch.float64)

    small = rows(*((4, 9) if setting.toy else (40, 128)))
    large = rows(*((20, 30) if setting.toy else (685, 768)))
    as_sympy = sympy.Matrix(small.tolist())
    few = race(setting, {"sympy": as_sympy.nullspace}, repeats=min(3, setting.repeats))["sympy"]
    ours = per_call(lambda: null_space_basis(small), CALLS)
    scipys = per_call(lambda: scipy.linalg.null_space(small.numpy()), CALLS)
    many = race(setting, {"ours": ours, "scipy": scipys})
    one, other = (_per_call(many[name]) for name in ("ours", "scipy"))
    big = race(
        setting,
        {
            "ours": lambda: null_space_basis(large),
            "scipy": lambda: scipy.linalg.null_space(large.numpy()),
        },
    )
    residual = float((large @ null_space_basis(large).T).abs().max())
    size = "x".join(map(str, small.shape)), "x".join(map(str, large.shape))
    speedup = Line(f"null-space basis, {size[0]}", one, "sympy `Matrix.nullspace`", few.processor)
    assert speedup.ratio is not None
    return [
        Line(
            speedup.what,
            one,
            speedup.peer,
            few.processor,
            bar="at least 1000 times as fast",
            holds=1 / speedup.ratio >= 1000,
        ),
        Line(f"null-space basis, {size[0]}", one, "`scipy.linalg.null_space`", other),
        under(1.0, f"null-space basis, {size[1]}", big["ours"].processor),
        Line(
            f"null-space basis, {size[1]}",
            big["ours"].processor,
            "`scipy.linalg.null_space`",
            big["scipy"].processor,
        ),
        under(1e-12, f"largest residual, {size[1]}", [residual], unit=""),
    ]


def _per_call(times: Times) -> list[float]:
    return [seconds / CALLS for seconds in times.processor]
