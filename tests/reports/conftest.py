"""Pages with something in every section, about a concept and prompts of any name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from shiftreg.api.trail.evidence import ErasurePart, EvidencePage
from shiftreg.api.trail.exports import ConceptExports, Export
from shiftreg.api.trail.stored_checks import VerificationLine
from shiftreg.attacks.results import AttackReport, AttackScore
from shiftreg.audit import AuditEvent, AuditReport
from shiftreg.checks import Check
from shiftreg.evaluation.intervals import Estimate
from shiftreg.evaluation.results import ConceptScore, Evaluation, ParaphraseScore, StepResult
from shiftreg.registry import BaseRecord, ShiftVersion
from shiftreg.registry.records import CompositionVersion, Measurement
from shiftreg.reports import (
    ConceptLine,
    ImageGroup,
    ImageRow,
    Note,
    ReportPage,
    ShiftPart,
    curve,
    embed_image,
)
from shiftreg.shift import ConceptShift

DIGEST = "fedcba9876543210" * 4
SHIFT_DIGEST = "0123456789abcdef" * 4


def make_evaluation(name: str) -> Evaluation:
    """Two steps; the second leads to the page's composition."""
    found, gone = Estimate(1.0, 0.9, 1.0, 30), Estimate(0.0, 0.0, 0.12, 30)
    near, far = Estimate(0.0004, 0.0003, 0.0006, 30), Estimate(0.31, 0.29, 0.33, 30)
    scores = (
        ConceptScore(name, "forgotten", 123.4, gone, found, far, far),
        ConceptScore("Picasso", "regular", float("nan"), found, found, near, near),
    )
    paraphrases = (
        ParaphraseScore(name, "forgotten", "held-out prompts", (f"by {name}",), found, gone, far),
        ParaphraseScore(name, "forgotten", "misspellings", (f"{name}o",), found, gone, far),
    )
    steps = tuple(
        StepResult(
            number=number,
            label=f"t{number}",
            action=f"erase {name}",
            digest=digest,
            states={name: "erased", "Picasso": "generates"},
            scores=scores,
            paraphrases=paraphrases,
            ordinary=near,
            ordinary_frechet=1.5,
            watermark={"CCS 2024": found},
            base_watermark={"CCS 2024": found},
        )
        for number, digest in ((1, SHIFT_DIGEST), (2, DIGEST))
    )
    return Evaluation(
        name=f"scene of {name}",
        base="miniature",
        method="closed-form",
        images=30,
        seed=0,
        classifier="styles",
        steps=steps,
        goals=(
            Check("forgotten accuracy", f"{name}, t2", 0.0, 0.02, True, "Gone."),
            Check("regular LPIPS", "Picasso, t2", 0.3, 0.01, False, "Disturbed."),
        ),
        passed=False,
        reference={"t2": {name: "234.5/0.0/0.61"}},
        image=None,
        report_path=None,
        created="2026-11-23T10:00:00+00:00",
    )


def make_attack(name: str, digest: str = DIGEST) -> AttackReport:
    """One attack, which brings the concept back in a third of the images."""
    back, gone = Estimate(0.34, 0.28, 0.43, 64), Estimate(0.0, 0.0, 0.06, 64)
    return AttackReport(
        base="miniature",
        concept=name,
        digest=digest,
        classifier="styles",
        seed=0,
        images=64,
        unattacked={"base": Estimate(1.0, 0.94, 1.0, 64), "composition": gone},
        scores=(
            AttackScore(
                "concept inversion",
                "composition",
                back,
                {"steps": 300, "tokens": 2},
                41.6,
                f"a vector near {name}",
            ),
        ),
        image=None,
        report_path=None,
        created="2026-11-23T11:00:00+00:00",
    )


def make_event(name: str, action: str, reason: str) -> AuditEvent:
    return AuditEvent(
        sequence=3,
        time="2026-11-24T02:00:00.000+00:00",
        actor=name,
        host=name,
        tool_version="0",
        action=action,
        base="miniature",
        concepts=(name,),
        reason=reason,
        digests={name: DIGEST, "shift": SHIFT_DIGEST},
        details={},
        previous=SHIFT_DIGEST,
        digest=DIGEST,
        request=name,
        licence=name,
        key=DIGEST,
    )


def make_export(name: str) -> CompositionVersion:
    return CompositionVersion(
        base="miniature",
        version=1,
        digest=DIGEST,
        shifts=((name, 2, SHIFT_DIGEST),),
        erased=(name,),
        restored=(),
        export_path=f"/models/{name}.ckpt",
        export_digest=SHIFT_DIGEST,
        recipe_digest=DIGEST,
        verification=None,
        created="2026-11-23T12:00:00.000+00:00",
        run_id="1",
        reason=name,
        actor=name,
    )


def make_version(name: str, reason: str) -> ShiftVersion:
    return ShiftVersion(
        base="miniature",
        concept=name,
        aliases=(name,),
        version=2,
        digest=SHIFT_DIGEST,
        method="srs-me",
        active=True,
        created="2026-11-23T09:00:00.000+00:00",
        run_id="1",
        reason=reason,
        actor=name,
        protected=("", name, "a tree"),
        predecessor=None,
        metrics={"relative_change": 1.78},
        artifact="shift.safetensors",
        file_digest=DIGEST,
    )


def make_shift(name: str, method: str = "srs-me") -> ConceptShift:
    return ConceptShift(
        concept=name,
        aliases=(f"Michelangelo {name}",),
        kind="style",
        method=method,
        base_digest=DIGEST,
        text_encoder_digest=DIGEST,
        support=torch.ones(1, 2),
        factors={"to_k": torch.ones(3, 1)},
        protected=tuple(f"prompt {number}" for number in range(11)),
        protected_digest=DIGEST,
    )


def make_page(name: str = "Caravaggio") -> ReportPage:
    """A page; where it can, everything on it carries the name."""
    generator = np.random.default_rng(0)

    def images(prompt: str, model: str) -> tuple:
        images = generator.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
        return tuple(
            embed_image(image, f"{prompt}, seed {seed}, {model}")
            for seed, image in enumerate(images)
        )

    def row(prompt: str, state: str, note: str = "") -> ImageRow:
        return ImageRow(prompt, state, images(prompt, "base"), images(prompt, "composition"), note)

    losses = [(step, 1 / step) for step in range(1, 400)]
    return ReportPage(
        created="2026-11-24 02:00 UTC",
        tool="shiftreg 0.1.0",
        base="miniature",
        base_digest=SHIFT_DIGEST,
        digest=DIGEST,
        file=f"{name}.ckpt",
        file_digest=SHIFT_DIGEST,
        concepts=(
            ConceptLine(name, "erased", "erased (version 2)", SHIFT_DIGEST),
            ConceptLine("Picasso", "generates", "generates", ""),
        ),
        warnings=(f"The shift of {name} is stale.",),
        sampling="Generated in 20 steps.",
        images=(
            ImageGroup("Erased concepts", "Gone.", (row(name, "erased"),), (f"more of {name}",)),
            ImageGroup("Watermark", "The same.", (row("CCS 2024", "", "Base: “x”."),)),
        ),
        separability={
            name: {"": 3e-9, "Picasso": 4e-8, "CCS 2024": 2e-5, name.upper(): 0.5},
            "Picasso": {"": 1e-7, name: 5e-6, "CCS 2024": 3e-3},
        },
        checks=(
            Check("separability", f"{name} -> ''", 3e-8, 1e-5, True, "Untouched."),
            Check("erasure", name, 0.25, 0.05, False, f"{name} is still seen.", (0.1, 0.4)),
        ),
        evaluation=make_evaluation(name),
        evaluation_notes=(),
        attacks=(make_attack(name),),
        attack_notes=(Note("No attack is stored on Picasso. Make one:", "shiftreg attack X"),),
        shifts=(
            ShiftPart(
                version=make_version(name, f"a request about {name}"),
                shift=make_shift(name),
                actor=name,
                predecessor="version 1 (0123)",
                hyperparameters=f'{{\n  "tau": 0.1,\n  "name": "{name}"\n}}',
                curves=tuple(line for line in (curve("loss", losses),) if line),
                solved="",
            ),
        ),
        history=(make_event(name, "erase", f"about {name}"),),
        chain="The audit trail's hash chain of 3 events holds.",
        chain_head=DIGEST,
        exports=(make_export(name),),
        recipe=f'{{"concept": "{name}"}}',
    )


@pytest.fixture(scope="session")
def page() -> ReportPage:
    return make_page()


@pytest.fixture(scope="session")
def page_about() -> Callable[[str], ReportPage]:
    return make_page


@pytest.fixture(scope="session")
def evaluation_of() -> Callable[[str], Evaluation]:
    return make_evaluation


@pytest.fixture(scope="session")
def attack_on() -> Callable[..., AttackReport]:
    return make_attack


@pytest.fixture
def evidence_about() -> Callable[[str], EvidencePage]:
    """A page of evidence about a concept of any name, with something in every section."""

    def make(name: str) -> EvidencePage:
        image = np.full((64, 128, 3), 90, np.uint8)
        event = make_event(name, "restore", name)
        version = make_version(name, name)
        export = Export(
            state="erased",
            statement=name,
            name=name,
            path=name,
            form="ckpt",
            digest=DIGEST,
            composition=DIGEST,
            version=1,
            shift_version=1,
            shift=SHIFT_DIGEST,
            created="2026-11-24",
            host=name,
            actor=name,
            reason=name,
            file="unchanged",
            in_trail=True,
        )
        base = BaseRecord(
            name="miniature",
            source="miniature",
            digest=DIGEST,
            text_encoder_digest=DIGEST,
            layers=(),
            triggers={},
            protected=(),
            preserved=(),
            subjects=(),
            held_out_templates=(),
            steps=20,
            guidance=7.5,
            created="2026-11-24",
        )
        verification = Measurement(
            "1", "verification", DIGEST, DIGEST, "", True, "2026-11-24", "report.json", DIGEST
        )
        check = Check("erasure", name, 0.0, 0.02, True, f"{name} is not seen.")
        return EvidencePage(
            created="2026-11-24 03:00:00",
            tool="shiftreg 0",
            base=base,
            exports=ConceptExports("miniature", name, "erased (version 1)", (export,)),
            story=(("2026-11-24 02:00:00", f"It was erased, by {name}."),),
            erasures=(
                ErasurePart(
                    version, name, name, name, embed_image(image, f"{name}, before and after")
                ),
            ),
            verifications=(VerificationLine(verification, "erased", True, (check,)),),
            attacks=(),
            notes=(Note("No attack on it is on record. Make one:", f"shiftreg attack {name}"),),
            events=(event,),
            report=AuditReport(True, 3, DIGEST, (), (name,), SHIFT_DIGEST, 3),
            head=DIGEST,
        )

    return make
