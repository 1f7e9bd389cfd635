"""Attacks under way: each on every target, each with the images of what it found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
from torch import Tensor

from shiftreg import pipelines
from shiftreg.api.attacks.images import Evidence, found_share, generate_found
from shiftreg.api.attacks.plan import PreparedAttacks, Target
from shiftreg.api.values import Observer, Progress
from shiftreg.api.workspace import Workspace
from shiftreg.attacks import Attack, AttackResult, Start, Surface
from shiftreg.attacks.results import CONTROL, AttackScore
from shiftreg.canonical import canonical_digest
from shiftreg.checkpoints import Unfinished
from shiftreg.compose import merged_weights
from shiftreg.concepts import Concept
from shiftreg.erasers import NoiseModel, Step
from shiftreg.evaluation.intervals import Estimate
from shiftreg.reports import GridRow

SHOWN = 8  # images of a row in the grid


@dataclass(frozen=True)
class Search:
    """What one attack found on one target.

    Attributes:
        result: How to make the target generate the concept.
        seconds: That it took.
        looked: Whether the attack looked at the target; if not, it finds the same on any.
    """

    result: AttackResult
    seconds: float
    looked: bool


@dataclass
class Campaign:
    """Attacks that are under way, with what they reached so far.

    Attributes:
        prepared: What is attacked, and by what.
        evidence: Images of the concept that the attacker has.
        unfinished: What was found is kept there until all have ended.
        unattacked: Target -> share of images of the bare name in which the concept is found.
        scores: By attack and target.
        images: Of the same, and of "no attack": uint8 ``(n, H, W, 3)``, the first few.
        starts: Attack -> what it starts from, if not from noise.
        reusable: Attack -> what it found without looking at the model: the same for every target.
    """

    workspace: Workspace
    prepared: PreparedAttacks
    evidence: Evidence
    unfinished: Unfinished
    observe: Observer
    unattacked: dict[str, Estimate] = field(default_factory=dict)
    scores: dict[tuple[str, str], AttackScore] = field(default_factory=dict)
    images: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    starts: dict[str, Start] = field(default_factory=dict)
    reusable: dict[str, Search] = field(default_factory=dict)

    def attack(self, target: Target) -> None:
        """Runs every attack on one target, and generates what each found."""
        weights = merged_weights(pipelines.parameters(self.workspace.network), target.composition)
        self._measure_unattacked(target.name, self.evidence.prompts[0], weights)
        for one in self.prepared.attacks:
            search = self.reusable.get(one.name) or kept_search(
                self.unfinished,
                one,
                target.composition.digest,
                lambda one=one: self._search(one, target.name, weights),  # type: ignore[misc]
            )
            if not search.looked:
                self.reusable[one.name] = search
            self._measure(one, target.name, search.result, weights, search.seconds)

    def compare(self) -> None:
        """Generates on from the starts that attacks used, with the base, without the name."""
        starting = [one for one in self.prepared.attacks if one.name in self.starts]
        if not starting:
            return
        anchor = self.evidence.anchors[0]
        self._measure_unattacked(CONTROL, anchor, {})
        embeds = pipelines.encode_prompts(self.workspace.prompt_encoder, [anchor])
        for one in starting:
            text = f'"{anchor}", from the same start'
            self._measure(one, CONTROL, AttackResult(embeds, text, self.starts[one.name]), {}, 0.0)

    def in_order(self) -> tuple[AttackScore, ...]:
        """The scores by attack, then by target."""
        names = [one.name for one in self.prepared.attacks]
        return tuple(sorted(self.scores.values(), key=lambda score: names.index(score.attack)))

    def grid(self, scores: Sequence[AttackScore]) -> list[GridRow]:
        """Rows of images: without attack, then one an attack and target."""
        concept = self.prepared.plan.concept
        cells = {("no attack", name): share for name, share in self.unattacked.items()}
        cells |= {(score.attack, score.target): score.success for score in scores}
        return [
            GridRow(f"{one} on {target}: {share.value:.0%} {concept}", self.images[one, target])
            for (one, target), share in cells.items()
        ]

    @cached_property
    def words(self) -> pipelines.SoftPrompts:
        """The text encoder, which no shift changes."""
        return pipelines.SoftPrompts(self.workspace.pipeline)

    def _search(self, one: Attack, target: str, weights: Mapping[str, Tensor]) -> Search:
        """Runs one attack on a target of the given weights."""
        unet = self.workspace.network
        base_weights = pipelines.layer_weights(unet)
        began = time.monotonic()
        with pipelines.applied_weights(unet, weights):
            surface = self._surface(base_weights, f"{one.name} on {target}")
            found = one.run(surface, self.prepared.plan.seed)
        looked = cast("_Noticing", surface.model).was_used
        return Search(found, time.monotonic() - began, looked)

    def _surface(self, base_weights: Mapping[str, Tensor], stage: str) -> Surface:
        def on_step(step: Step) -> None:
            self.observe(Progress(stage, step.number, step.limit, step.values))

        pipeline = self.workspace.pipeline
        return Surface(
            model=cast("NoiseModel", _Noticing(pipelines.Denoiser(pipeline))),
            words=self.words,
            base_weights=base_weights,
            concept=self.prepared.plan.concept,
            **vars(self.evidence),
            observe=on_step,
        )

    def _measure_unattacked(self, target: str, prompt: str, weights: Mapping[str, Tensor]) -> None:
        plain = AttackResult(pipelines.encode_prompts(self.workspace.prompt_encoder, [prompt]))
        self.unattacked[target] = self._generate("no attack", target, plain, weights)

    def _measure(
        self,
        one: Attack,
        target: str,
        found: AttackResult,
        weights: Mapping[str, Tensor],
        seconds: float,
    ) -> None:
        if found.start is not None:
            self.starts[one.name] = found.start
        self.scores[one.name, target] = AttackScore(
            attack=one.name,
            target=target,
            success=self._generate(one.name, target, found, weights),
            budget=asdict(one),  # type: ignore[call-overload]
            seconds=seconds,
            result=found.text,
            metrics=dict(found.metrics),
        )

    def _generate(
        self, one: str, target: str, found: AttackResult, weights: Mapping[str, Tensor]
    ) -> Estimate:
        plan = self.prepared.plan
        seeds = range(plan.seed, plan.seed + plan.images)
        stage = f"generating {one} on {target}"
        generated = generate_found(self.workspace, found, weights, seeds, stage, self.observe)
        self.images[one, target] = generated[:SHOWN]
        return found_share(self.prepared.classifier, plan.concept, generated)


class _Noticing:
    """A model that notices whether anybody looks at it."""

    def __init__(self, model: NoiseModel) -> None:
        self._model = model
        self.was_used = False

    def __getattr__(self, name: str) -> Any:
        self.was_used = True
        return getattr(self._model, name)


def unfinished_attacks(workspace: Workspace, concept: Concept, seed: int) -> Unfinished:
    """Where attacks are continued from, if attacks on the same images were interrupted before."""
    base = workspace.base
    images = [base.digest, base.steps, base.guidance, list(base.subjects), asdict(concept)]
    return Unfinished.of(workspace.settings.home, *images, seed)


def kept_search(
    unfinished: Unfinished, attack: Attack, composition: str, search: Callable[[], Search]
) -> Search:
    """What was found before, or is found now.

    Raises:
        StorageError: The disk refused.
    """
    budget = asdict(attack)  # type: ignore[call-overload]
    name = f"{attack.name}-{canonical_digest([budget, composition])[:32]}"
    return _from_plain(unfinished.result(name, lambda: _to_plain(search())))


def _to_plain(search: Search) -> dict[str, Any]:
    """One flat record, with the start's own values in it: what a file can hold."""
    found = search.result
    start = found.start and dict(vars(found.start))
    return {**vars(found), "start": start, "seconds": search.seconds, "looked": search.looked}


def _from_plain(kept: Mapping[str, Any]) -> Search:
    found = dict(kept)
    seconds, looked, start = (found.pop(name) for name in ("seconds", "looked", "start"))
    return Search(AttackResult(**found, start=start and Start(**start)), seconds, looked)
