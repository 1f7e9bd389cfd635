"""Compositions: the same set gives the same bytes, whatever the order of commands."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shiftreg.compose import Composition, LazyWeights, merged_weight, merged_weights
from shiftreg.errors import IncompatibleError, InvalidInputError
from shiftreg.shift import ConceptShift
from shiftreg.subspace import null_space_basis

BASE = "b" * 64
WIDTH, OUT = 12, 5
LAYERS = ("a.to_k", "a.to_v")
NAMES = ("Cezanne", "Picasso", "Caravaggio", "Keith Haring", "Kilian Eng")


def shift_of(name: str, layers: Sequence[str] = LAYERS, **changes: str) -> ConceptShift:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    generator = torch.Generator().manual_seed(seed)
    values = {"base_digest": BASE, "text_encoder_digest": "t" * 64} | changes
    return ConceptShift(
        concept=name,
        aliases=(),
        kind="style",
        method="closed-form",
        support=torch.randn(3, WIDTH, generator=generator),
        factors={layer: torch.randn(OUT, 3, generator=generator) for layer in layers},
        protected=(),
        protected_digest="",
        **values,
    )


SHIFTS = {name: shift_of(name) for name in NAMES}
commands = st.lists(st.tuples(st.sampled_from(["erase", "restore"]), st.sampled_from(NAMES)))


def base_weights(dtype: torch.dtype = torch.float16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {layer: torch.randn(OUT, WIDTH, generator=generator).to(dtype) for layer in LAYERS}


def carry_out(history: list[tuple[str, str]]) -> dict[str, ConceptShift]:
    erased: dict[str, ConceptShift] = {}
    for command, name in history:
        if command == "erase":
            erased[name] = SHIFTS[name]
        else:
            erased.pop(name, None)
    return erased


@given(commands, st.randoms(use_true_random=False), st.sampled_from([torch.float16, torch.float32]))
def test_any_history_that_ends_with_the_same_erased_concepts_gives_the_same_bytes(
    history: list[tuple[str, str]], random: object, dtype: torch.dtype
) -> None:
    erased = carry_out(history)
    direct = list(erased.values())
    random.shuffle(direct)  # type: ignore[attr-defined]
    weights = base_weights(dtype)
    one = merged_weights(weights, Composition.of(BASE, erased.values()))
    other = merged_weights(weights, Composition.of(BASE, direct))
    assert one.keys() == other.keys()
    for layer, weight in one.items():
        assert weight.numpy().tobytes() == other[layer].numpy().tobytes()


@given(commands)
def test_restoring_everything_gives_the_base_itself(history: list[tuple[str, str]]) -> None:
    everything_back = history + [("restore", name) for name in NAMES]
    composition = Composition.of(BASE, carry_out(everything_back).values())
    assert merged_weights(base_weights(), composition) == {}
    weight = base_weights()["a.to_k"]
    assert merged_weight(weight, composition.shifts, "a.to_k") is weight


def test_the_sum_is_the_base_plus_every_delta_rounded_once() -> None:
    weights = base_weights(torch.float16)
    composition = Composition.of(BASE, SHIFTS.values())
    merged = merged_weights(weights, composition)["a.to_k"]
    exact = weights["a.to_k"].double()
    for shift in composition.shifts:
        exact = exact + shift.delta_weight("a.to_k")
    assert merged.dtype == torch.float16
    assert torch.equal(merged, exact.half())


@given(st.sets(st.sampled_from(NAMES), min_size=1), st.integers(0, 99))
def test_protected_prompts_do_not_notice_any_set_of_decoupled_shifts(
    names: set[str], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    protected = torch.randn(4, WIDTH, generator=generator, dtype=torch.float64)
    basis = null_space_basis(protected)
    support = basis[:3].float()
    shifts = [
        ConceptShift(
            **{
                **{f: getattr(SHIFTS[n], f) for f in SHIFTS[n].__dataclass_fields__},
                "support": support,
            }
        )
        for n in names
    ]
    weights = base_weights(torch.float32)
    merged = merged_weights(weights, Composition.of(BASE, shifts))
    for layer, weight in weights.items():
        before = protected @ weight.double().T
        after = protected @ merged[layer].double().T
        assert (after - before).norm() <= 1e-5 * before.norm()


def test_a_shift_that_leaves_a_layer_alone_leaves_its_weight_alone() -> None:
    composition = Composition.of(BASE, [shift_of("Cezanne", layers=["a.to_k"])])
    assert set(merged_weights(base_weights(), composition)) == {"a.to_k"}


def dense_shift_of(name: str, seed: int, **shapes: tuple[int, ...]) -> ConceptShift:
    generator = torch.Generator().manual_seed(seed)
    dense = {
        layer.replace("__", "."): torch.randn(shape, generator=generator)
        for layer, shape in shapes.items()
    }
    return replace(
        shift_of(name), method="esd", support=torch.zeros(0, WIDTH), factors={}, dense=dense
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_dense_and_low_rank_deltas_of_one_layer_are_summed_and_rounded_once(
    dtype: torch.dtype,
) -> None:
    low_rank, dense = SHIFTS["Picasso"], dense_shift_of("Cezanne", 1, a__to_k=(OUT, WIDTH))
    weights = base_weights(dtype)
    merged = merged_weights(weights, Composition.of(BASE, [low_rank, dense]))
    product = low_rank.factors["a.to_k"].double() @ low_rank.support.double()
    exact = weights["a.to_k"].double() + product + dense.dense["a.to_k"].double()
    assert merged["a.to_k"].dtype == dtype
    # The order of the digests decides that of the sum: one rounding of float64 apart at most.
    assert torch.allclose(merged["a.to_k"].double(), exact.to(dtype).double(), rtol=1e-3)
    assert (merged["a.to_k"] == exact.to(dtype)).double().mean() > 0.98
    alone = merged_weights(weights, Composition.of(BASE, [low_rank]))
    assert torch.equal(merged["a.to_v"], alone["a.to_v"]), "only the low-rank shift changes it"


def test_biases_and_convolutions_are_merged_too() -> None:
    shift = dense_shift_of("Eng", 2, conv_in=(3, 2, 3, 3), conv_in__bias=(3,))
    weights = {
        "conv_in": torch.randn(3, 2, 3, 3).half(),
        "conv_in.bias": torch.randn(3).half(),
        "conv_out.bias": torch.randn(3).half(),
    }
    merged = merged_weights(weights, Composition.of(BASE, [shift]))
    assert set(merged) == {"conv_in", "conv_in.bias"}
    for name, weight in merged.items():
        assert torch.equal(weight, (weights[name].double() + shift.dense[name].double()).half())


def test_dense_shifts_give_the_same_bytes_in_any_order_and_go_without_a_trace() -> None:
    shifts = [
        dense_shift_of("Eng", 2, a__to_k=(OUT, WIDTH)),
        dense_shift_of("Haring", 3, a__to_k=(OUT, WIDTH), a__to_v=(OUT, WIDTH)),
        SHIFTS["Picasso"],
    ]
    weights = base_weights()
    merged = [
        merged_weights(weights, Composition.of(BASE, order))
        for order in (shifts, shifts[::-1], shifts[1:] + shifts[:1])
    ]
    for other in merged[1:]:
        assert all(torch.equal(merged[0][layer], other[layer]) for layer in LAYERS)
    without = merged_weights(weights, Composition.of(BASE, shifts[2:]))
    direct = merged_weights(weights, Composition.of(BASE, [SHIFTS["Picasso"]]))
    assert all(torch.equal(without[layer], direct[layer]) for layer in LAYERS)


@pytest.mark.parametrize("shape", [(OUT,), (1, WIDTH), (OUT, WIDTH, 1), (WIDTH, OUT)])
def test_a_dense_delta_of_another_shape_is_refused_even_if_it_could_be_broadcast(
    shape: tuple[int, ...],
) -> None:
    composition = Composition.of(BASE, [dense_shift_of("Eng", 4, a__to_k=shape)])
    with pytest.raises(IncompatibleError, match=r"changes a\.to_k with shape"):
        merged_weights(base_weights(), composition)


def test_shifts_of_another_base_or_text_encoder_do_not_compose() -> None:
    with pytest.raises(IncompatibleError, match="made for base cccccccccccc"):
        Composition.of(BASE, [shift_of("Cezanne", base_digest="c" * 64)])
    with pytest.raises(IncompatibleError, match="text encoders"):
        Composition.of(BASE, [SHIFTS["Cezanne"], shift_of("Eng", text_encoder_digest="u" * 64)])


def test_two_shifts_of_one_concept_do_not_compose() -> None:
    other = shift_of("Picasso", layers=["a.to_k"])
    with pytest.raises(InvalidInputError, match="Picasso"):
        Composition.of(BASE, [SHIFTS["Picasso"], other])


def test_weights_that_do_not_fit_are_refused() -> None:
    composition = Composition.of(BASE, [SHIFTS["Picasso"]])
    with pytest.raises(IncompatibleError, match=r"no layer a\.to_k"):
        merged_weights({}, composition)
    with pytest.raises(IncompatibleError, match="shape"):
        merged_weights({layer: torch.zeros(OUT, WIDTH + 1) for layer in LAYERS}, composition)


def test_the_digest_tells_compositions_apart() -> None:
    sets = [[], [SHIFTS["Picasso"]], [SHIFTS["Cezanne"]], list(SHIFTS.values())]
    assert len({Composition.of(BASE, shifts).digest for shifts in sets}) == len(sets)
    assert Composition.of(BASE, sets[3]).digest == Composition.of(BASE, sets[3][::-1]).digest


def test_lazy_weights_are_the_same_and_each_is_computed_when_it_is_looked_up() -> None:
    weights, read = base_weights(), list[str]()

    def note(layer: str) -> torch.Tensor:
        read.append(layer)
        return weights[layer]

    composition = Composition.of(BASE, SHIFTS.values())
    lazy = LazyWeights(note, composition, torch.float64)
    assert (len(lazy), list(lazy), lazy.keys()) == (2, list(LAYERS), set(LAYERS))
    assert LAYERS[0] in lazy
    assert "b.to_k" not in lazy
    assert read == []
    expected = merged_weights(weights, composition, torch.float64)
    for layer in LAYERS:
        assert torch.equal(lazy[layer], expected[layer])
    assert read == list(LAYERS)
    with pytest.raises(KeyError):
        lazy["b.to_k"]
