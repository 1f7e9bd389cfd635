"""Values as the use cases return them, made by hand: no base is loaded here."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from shiftreg.api.release.values import PolicyStanding, Refusal, SignatureReport
from shiftreg.api.values import (
    CompositionPlan,
    ConceptDetail,
    ConceptState,
    ErasurePlan,
    ErasureResult,
    ExportResult,
    GridResult,
    Verification,
)
from shiftreg.checks import Check
from shiftreg.verification import Policy
from tests.servers import WHOLE_ON_SERVER
from tests.worlds import Worlds

DIGEST = "0123456789abcdef" * 4


class Values:
    """One of each value, about a concept and prompts of the given name."""

    def __init__(self, folder: Path, name: str = "Caravaggio") -> None:
        self.erasure_plan = ErasurePlan(
            base="miniature",
            concept=name,
            aliases=(f"Michelangelo {name}",),
            kind="style",
            method="closed-form",
            hyperparameters={"preservation": 10.0, "ridge": 0.1},
            prompts=(name, f"a painting by {name}", f"a church by {name}", f"a tench by {name}"),
            protected=("", "Picasso", "CCS 2024"),
            preserved=("a church",),
            capacity={
                "width": 256,
                "rank": 166,
                "free": 90,
                "support": 64,
                "predicted_residual": 0.0123,
                "predicted_ratio": 0.0456,
            },
            warnings=(f"Beware of {name}.",),
        )
        self.erasure = ErasureResult(
            plan=self.erasure_plan,
            version=2,
            digest=DIGEST,
            metrics={"relative_change": 0.0421, "max_drift": 2e-8, "seconds": 1.25},
            stale=(f"older {name}",),
            samples=folder / "before-after.png",
            statement=f"{name}: erased (version 2)",
        )
        self.state = ConceptState(name, "erased", 2, 3, "closed-form", DIGEST, (f"newer {name}",))
        self.protected_state = ConceptState("Picasso", "generates", None, 0, "", "", ())
        self.detail = ConceptDetail(
            state=self.state,
            versions=(
                {
                    "version": 2,
                    "active": True,
                    "method": "closed-form",
                    "digest": DIGEST,
                    "protected": ("Picasso", name),
                    "metrics": {"max_drift": 2e-8},
                    "reason": f"a request about {name}",
                },
            ),
            history=(
                {"time": "2026-11-24T02:00:00Z", "action": "erase", "actor": name, "reason": name},
            ),
        )
        self.plan = CompositionPlan(
            base="miniature",
            base_digest=DIGEST,
            digest="fedcba9876543210" * 4,
            shifts=((name, 2, DIGEST),),
            states={name: "erased", "Picasso": "generates"},
            statements=(
                f"{name}: erased (version 2)",
                "Picasso: generates (restored: its shift is left out)",
            ),
            warnings=(f"The shift of {name} is stale.",),
        )
        exported = folder / "model.ckpt"
        exported.write_bytes(bytes(1500))
        self.export = ExportResult(
            plan=self.plan,
            path=exported,
            format="ckpt",
            digest=DIGEST,
            dtype="float16",
            recipe_path=folder / "model.recipe.json",
            recipe_digest=DIGEST,
            version=1,
        )
        self.verification = Verification(
            plan=self.plan,
            file=None,
            checks=(
                Check("separability", f"{name} -> Picasso", 3e-8, 1e-5, True, "Untouched."),
                Check("separability", f"{name} -> CCS 2024", 9e-8, 1e-5, True, "Untouched."),
                Check("images", "Picasso", 0.0004, 0.001, True, "As before."),
                Check("erasure", name, 0.25, 0.05, False, f"{name} is still seen.", (0.1, 0.4)),
            ),
            separability={name: {"Picasso": 3e-8, "CCS 2024": 9e-8}},
            passed=False,
            report_path=folder / "report.json",
        )
        self.passed_verification = replace(
            self.verification, checks=self.verification.checks[:3], passed=True
        )
        failed = self.verification.checks[3:]
        self.refusal = Refusal(exported, self.plan, failed, self.verification)
        self.trust = SignatureReport(
            exported,
            DIGEST,
            (Check("signature", "model.ckpt.sig", 0.0, 0.0, True, "Signed."),),
            True,
            {"statements": [f"{name}: erased (version 2)"], "verification": {"passed": True}},
        )
        self.distrust = SignatureReport(
            exported,
            "",
            (Check("signature", "model.ckpt.sig", 1.0, 0.0, False, f"{name} did not sign."),),
            False,
            {},
        )
        self.standing = PolicyStanding(
            Policy(must_erase=(name,), verify=True), {"noise": 1e-4}, self.plan, failed, False
        )
        self.no_policy = PolicyStanding(Policy(), {"noise": 1e-4}, self.plan, (), True)
        self.grid = GridResult(self.plan, folder / "grid.png", (name, "Picasso"), (0, 1))


@pytest.fixture
def values(tmp_path: Path) -> Values:
    return Values(tmp_path)


@pytest.fixture
def values_about(tmp_path: Path) -> Callable[[str], Values]:
    return lambda name: Values(tmp_path, name)


@pytest.fixture
def draw() -> Callable[..., str]:
    """Draws as the command line does: its consoles read no markup."""

    def drawn(rendered: RenderableType, *, width: int = 400, terminal: bool = False) -> str:
        file = io.StringIO()
        console = Console(
            file=file,
            width=width,
            force_terminal=terminal,
            markup=False,
            emoji=False,
            highlight=False,
        )
        console.print(rendered)
        return file.getvalue()

    return drawn


@pytest.fixture
def home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, worlds: Worlds
) -> Path:
    """A folder of its own to work in, without settings from outside."""
    for name in [name for name in os.environ if name.startswith("SHIFTREG_")]:
        monkeypatch.delenv(name)
    if WHOLE_ON_SERVER:
        request.getfixturevalue("server")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"
