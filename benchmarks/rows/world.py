"""A base's layers, and a hundred concepts as its text encoder sees them; shifts to compose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from rows.measure import Setting
from shiftreg import checkpoints, pipelines
from shiftreg.checkpoints.base_folder import stored_component
from shiftreg.compose import Composition, LazyWeights
from shiftreg.concepts import Concept, PromptPair
from shiftreg.erasers import ErasureProblem
from shiftreg.pipelines.families import family_of, find_family
from shiftreg.pipelines.load import load_text_side
from shiftreg.profiles import Profile, profile_null_basis, weighted_rows
from shiftreg.shift import ConceptShift

NAMES = Path(__file__).parents[2] / "docs" / "capacity.json"
FIXED = ("", "watermark SRS-ME", "CCS 2024")
SUBJECTS = ("house", "tree", "woman", "dog", "landscape")
PROMPTS = 4  # of each concept: its name, and three more
RANK = 76  # of a shift of one prompt: all tokens but the first
BASE = "0" * 64


def layer_shapes(setting: Setting) -> dict[str, tuple[int, ...]]:
    """Layers that see the text alone -> their weight's shape."""
    stored = stored_component(setting.base("float16") / "unet")
    names = [n for n in stored if n.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))]
    return {name.removesuffix(".weight"): stored[name].shape for name in names}


def layer_weights(setting: Setting) -> dict[str, Tensor]:
    """Their weights, read from the file of the network alone."""
    read = checkpoints.parameter_reader(setting.base("float32"))
    return {name: read(name) for name in layer_shapes(setting)}


@cache
def shifts(setting: Setting, count: int) -> tuple[ConceptShift, ...]:
    """Random shifts of the usual size."""
    generator = torch.Generator().manual_seed(1)
    shapes = layer_shapes(setting)
    width = next(iter(shapes.values()))[1]
    rank = min(RANK, width // 2)

    def small(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.01

    return tuple(
        ConceptShift(
            concept=f"concept {number}",
            aliases=(),
            kind="style",
            method="random",
            base_digest=BASE,
            text_encoder_digest=BASE,
            support=small(rank, width),
            factors={name: small(shape[0], rank) for name, shape in shapes.items()},
            protected=("",),
            protected_digest=BASE,
        )
        for number in range(count)
    )


def composed(setting: Setting, dtype: str, count: int) -> LazyWeights:
    """What a composition of so many shifts puts into a base."""
    composition = Composition.of(BASE, shifts(setting, count))
    return LazyWeights(checkpoints.parameter_reader(setting.base(dtype)), composition)


@dataclass(frozen=True)
class World:
    """Concepts as embeddings.

    Attributes:
        names: ``(n, L, d)``.
        fixed: ``(3, L, d)``, the empty prompt and two watermarks.
        plain: ``(k, L, d)``, ordinary prompts.
        prompts: ``(n, 4, L, d)``, of each concept.
        anchors: Likewise.
        positions: First token of the name, by concept and prompt.
        ends: Last token of the name, likewise.
        anchor_ends: Last word of the anchor, likewise.
        tokens: Of each name, with beginning and end.
    """

    names: Tensor
    fixed: Tensor
    plain: Tensor
    prompts: Tensor
    anchors: Tensor
    positions: list[list[int]]
    ends: list[list[int]]
    anchor_ends: list[list[int]]
    tokens: list[int]

    def problem(
        self, concept: int, known: int, profile: str, prompts: int = PROMPTS
    ) -> ErasureProblem:
        """The erasure of one concept beside the first ``known`` others."""
        others = [other for other in range(known) if other != concept]
        protected = torch.cat([self.fixed, self.names[others]])
        tokens = [4] * len(FIXED) + [self.tokens[other] for other in others]
        groups = [(self.plain.flatten(0, 1), 1.0), (self.names[others].flatten(0, 1), 10.0)]
        basis = profile_null_basis(protected, tokens, Profile.parse(profile), range(len(FIXED)))
        return ErasureProblem(
            prompt_embeds=self.prompts[concept, :prompts],
            anchor_embeds=self.anchors[concept, :prompts],
            name_positions=tuple(self.positions[concept][:prompts]),
            name_ends=tuple(self.ends[concept][:prompts]),
            anchor_ends=tuple(self.anchor_ends[concept][:prompts]),
            bare_names=(0,),
            empty_embeds=self.fixed[0],
            retained_rows=self.names[others, [self.tokens[other] - 2 for other in others]],
            preserved_rows=weighted_rows(groups),
            null_basis=basis,
        )


def world(setting: Setting, count: int = 100) -> World:
    """Encodes the concepts, once."""
    kept = setting.folder / f"{setting.family}-concepts-{count}.pt"
    if not kept.exists():
        torch.save(_encoded(setting, count), kept)
    return World(**torch.load(kept, weights_only=True))


def _encoded(setting: Setting, count: int) -> dict[str, object]:
    folder = setting.base("float32")
    text_side = family_of(load_text_side(folder))
    pipeline = pipelines.PromptEncoder(find_family(folder), lambda: text_side)

    @torch.no_grad()
    def encode(prompts: Sequence[str]) -> Tensor:
        different = list(dict.fromkeys(prompts))
        embeds = torch.cat(
            [
                pipelines.encode_prompts(pipeline, different[at : at + 16])
                for at in range(0, len(different), 16)
            ]
        )
        return embeds[[different.index(prompt) for prompt in prompts]]

    names = json.loads(NAMES.read_text(encoding="utf-8"))["names"][:count]
    pairs = [Concept(name).prompt_pairs(SUBJECTS[:1])[:PROMPTS] for name in names]
    flat: list[PromptPair] = [pair for of_one in pairs for pair in of_one]
    anchors = [pair.anchor for pair in flat]
    shape = (count, PROMPTS)

    def by_concept(values: Sequence[int]) -> list[list[int]]:
        return [list(values[at : at + PROMPTS]) for at in range(0, len(values), PROMPTS)]

    return {
        "names": encode(names),
        "fixed": encode(FIXED),
        "plain": encode([f"a photo of a {subject}" for subject in SUBJECTS]),
        "prompts": encode([pair.prompt for pair in flat]).unflatten(0, shape),
        "anchors": encode(anchors).unflatten(0, shape),
        "positions": by_concept(pipelines.name_positions(pipeline, flat)),
        "ends": by_concept(pipelines.name_ends(pipeline, flat)),
        "anchor_ends": by_concept(pipelines.last_positions(pipeline, anchors)),
        "tokens": [position + 2 for position in pipelines.last_positions(pipeline, names)],
    }
