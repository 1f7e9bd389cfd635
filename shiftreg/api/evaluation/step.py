"""Measures one composition: names, paraphrases, neighbours, ordinary prompts, watermark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

import numpy as np
from torch.nn.functional import normalize

from shiftreg import pipelines
from shiftreg.api.composition.compose import plan_shifts
from shiftreg.api.evaluation.gallery import Gallery, Shot, shots
from shiftreg.api.values import CompositionPlan, Observer, Progress
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import Concept, Kind
from shiftreg.evaluation import intervals
from shiftreg.evaluation.classifier import Classifier
from shiftreg.evaluation.frechet import alexnet_features, frechet_distance
from shiftreg.evaluation.intervals import Estimate
from shiftreg.evaluation.perceptual import lpips_distances
from shiftreg.evaluation.results import ConceptScore, ParaphraseScore, Role, StepResult
from shiftreg.evaluation.scenes import SceneStep
from shiftreg.evaluation.style import style_distances
from shiftreg.evaluation.watermark import decodes
from shiftreg.paraphrases import aliases, held_out_prompts, misspellings

NEIGHBOURS = 3
Images = Mapping[Shot, np.ndarray]


@dataclass(frozen=True)
class Subject:
    """What is measured, and how.

    Attributes:
        gallery: Where images are kept.
        classifier: Says what they show.
        concepts: Names that the classifier knows.
        images: Images a cell.
        seed: Moves all seeds.
        aliases: Concept -> synonyms to try.
        spellings: Concept -> spellings of other languages to try.
        neighbours: Names that may be near a concept, beside the known ones.
    """

    workspace: Workspace
    gallery: Gallery
    classifier: Classifier
    concepts: tuple[str, ...]
    kind: Kind
    images: int
    seed: int
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    spellings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    neighbours: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlayedStep:
    """A step, and what is composed after it.

    Attributes:
        step: What was erased and restored.
        erased_before: All concepts that were erased at some time: those of them that generate now
            are the recovered ones.
    """

    step: SceneStep
    plan: CompositionPlan
    erased_before: frozenset[str]


def measure_step(
    subject: Subject, number: int, played: PlayedStep, *, paraphrases: bool, observe: Observer
) -> StepResult:
    """Generates with base and composition, and compares; if asked, paraphrases and neighbours."""
    plan, step = played.plan, played.step
    workspace = subject.workspace
    roles = {name: _role(plan, name, played.erased_before) for name in subject.concepts}
    asked = {
        (name, form): prompts
        for name in subject.concepts
        if paraphrases
        for form, prompts in _paraphrases(subject, plan, name, roles[name]).items()
    }
    ordinary = shots(_spread(workspace.base.preserved, 2 * subject.images), subject.seed)
    triggers = {t: p for t, p in workspace.base.triggers.items() if p}
    cells = {
        **{("", name): shots([name] * subject.images, subject.seed) for name in subject.concepts},
        **{key: shots(_spread(p, subject.images), subject.seed) for key, p in asked.items()},
    }
    marks = {t: shots([t] * subject.images, subject.seed) for t in triggers}
    wanted = [shot for cell in (*cells.values(), *marks.values(), ordinary) for shot in cell]
    before = subject.gallery.generate(wanted, observe=_watch(observe, "generating the base"))
    after = subject.gallery.generate(
        wanted,
        plan_shifts(workspace, plan),
        _watch(observe, f"generating: {step.action or 'the composition'}"),
    )

    def pair(cell: Sequence[Shot]) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([before[s] for s in cell]), np.stack([after[s] for s in cell])

    def decoded(images: Images) -> dict[str, Estimate]:
        return {
            trigger: intervals.rate(decodes(np.stack([images[s] for s in cell]), triggers[trigger]))
            for trigger, cell in marks.items()
        }

    return StepResult(
        number=number,
        label=step.label,
        action=step.action,
        digest=plan.digest,
        states={name: plan.states.get(name, "generates") for name in subject.concepts},
        scores=tuple(
            _concept_score(subject.classifier, name, roles[name], *pair(cells["", name]))
            for name in subject.concepts
        ),
        paraphrases=tuple(
            _paraphrase_score(subject.classifier, name, roles[name], form, prompts, cells, pair)
            for (name, form), prompts in asked.items()
        ),
        ordinary=intervals.mean(lpips_distances(*pair(ordinary))),
        ordinary_frechet=_frechet(*pair(ordinary)),
        watermark=decoded(after),
        base_watermark=decoded(before),
    )


def _role(plan: CompositionPlan, name: str, erased_before: frozenset[str]) -> Role:
    if plan.states.get(name) == "erased":
        return "forgotten"
    return "recovered" if name in erased_before else "regular"


def _paraphrases(
    subject: Subject, plan: CompositionPlan, name: str, role: Role
) -> dict[str, tuple[str, ...]]:
    """Prompts that a concept may be called by, other than its name, that the encoder can read."""
    workspace = subject.workspace
    concept = Concept(name, (), subject.kind)
    paraphrases = {
        "held-out prompts": held_out_prompts(
            concept, workspace.base.held_out_templates, workspace.base.subjects, subject.images
        ),
        "aliases": aliases(concept, subject.aliases.get(name, ())),
        "misspellings": misspellings(name),
        "other spellings": tuple(subject.spellings.get(name, ())),
    }
    if role == "forgotten":
        paraphrases["neighbours"] = _nearest(subject, plan, name)
    readable = {
        form: tuple(
            prompt
            for prompt, fits in zip(
                prompts, pipelines.fitting(workspace.pipeline, prompts), strict=True
            )
            if fits
        )
        for form, prompts in paraphrases.items()
    }
    return {form: prompts for form, prompts in readable.items() if prompts}


def _nearest(subject: Subject, plan: CompositionPlan, name: str) -> tuple[str, ...]:
    """Generating names whose embeddings are nearest, by the cosine at the end of the name."""
    pipeline = subject.workspace.prompt_encoder
    known = (*subject.workspace.known_names(), *subject.neighbours)
    others = [
        other
        for other in dict.fromkeys(known)
        if other != name and plan.states.get(other) != "erased" and subject.classifier.knows(other)
    ]
    if not others:
        return ()
    prompts = [name, *others]
    ends = pipelines.last_positions(pipeline, prompts)
    rows = normalize(pipelines.encode_prompts(pipeline, prompts)[range(len(prompts)), ends], dim=1)
    nearness = (rows[1:] @ rows[0]).tolist()
    ranked = sorted(zip(nearness, others, strict=True), reverse=True)
    return tuple(other for _, other in ranked[:NEIGHBOURS])


def _concept_score(
    classifier: Classifier, name: str, role: Role, before: np.ndarray, after: np.ndarray
) -> ConceptScore:
    return ConceptScore(
        concept=name,
        role=role,
        frechet=_frechet(before, after),
        accuracy=intervals.rate(_detected(classifier, after, [name] * len(after))),
        base_accuracy=intervals.rate(_detected(classifier, before, [name] * len(before))),
        lpips=intervals.mean(lpips_distances(before, after)),
        style=intervals.mean(style_distances(before, after)),
    )


def _paraphrase_score(
    classifier: Classifier,
    name: str,
    role: Role,
    form: str,
    prompts: tuple[str, ...],
    cells: Mapping[tuple[str, str], Sequence[Shot]],
    pair: Callable[[Sequence[Shot]], tuple[np.ndarray, np.ndarray]],
) -> ParaphraseScore:
    cell = cells[name, form]
    before, after = pair(cell)
    labels = [shot.prompt if form == "neighbours" else name for shot in cell]
    return ParaphraseScore(
        concept=name,
        role=role,
        form=form,
        prompts=prompts,
        base=intervals.rate(_detected(classifier, before, labels)),
        after=intervals.rate(_detected(classifier, after, labels)),
        lpips=intervals.mean(lpips_distances(before, after)),
    )


def _detected(classifier: Classifier, images: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Whether each image is taken for its label, ``(n,)`` bool."""
    wanted = [classifier.labels.index(label) for label in labels]
    return classifier.predict(images) == np.array(wanted)


def _frechet(before: np.ndarray, after: np.ndarray) -> float:
    return frechet_distance(alexnet_features(before), alexnet_features(after))


def _spread(prompts: Sequence[str], count: int) -> tuple[str, ...]:
    """So many prompts, in turn, taken from all over a long list."""
    step = max(1, len(prompts) // count)
    return tuple(islice(cycle(tuple(prompts[::step])), count))


def _watch(observe: Observer, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: observe(Progress(stage, done, total))
