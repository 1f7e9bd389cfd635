"""Many writers at once: erasing, restoring, activating and composing the same few concepts.

    python benchmarks/concurrency.py --seconds 60
    python benchmarks/concurrency.py --seconds 60 --tracking-uri http://registry:5000

Every process opens the new registry at the same moment and works for so many seconds, each with a
home of its own if a server is named. Then all that commands reported is compared with registry and
audit trail: no version lost or given twice, one chain of events, and a serial order (the chain's)
in which every command did what it said and which ends in what is active now. Exit code 1 if not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import tenacity
import torch

from shiftreg import api, miniature
from shiftreg.api.erasure.register import register_shift
from shiftreg.errors import NotFoundError
from shiftreg.registry import lock
from shiftreg.settings import Settings
from shiftreg.shift import ConceptShift

CONCEPTS = ("Picasso", "Caravaggio", "Monet", "Hokusai")
RANK = 2
COMMANDS = 8  # of each process at least: a machine that is busy has something to judge, too


class Counting:
    """Stands before a module's ``time``, and counts how often it is slept."""

    def __init__(self) -> None:
        self.sleeps = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        time.sleep(seconds)


class Writer:
    """One process: does what it is told, and remembers what it was told back."""

    def __init__(self, settings: Settings, number: int, folder: Path) -> None:
        self.number, self.folder = number, folder
        self.random = random.Random(number)
        self.generator = torch.Generator().manual_seed(number)
        self.reports: list[dict[str, Any]] = []
        self.workspace = api.open_workspace(settings)
        self.base = self.workspace.base

    def step(self) -> None:
        """One command, chosen by chance."""
        commands = [self.erase] * 4 + [self.restore] * 4 + [self.activate] * 2 + [self.compose]
        command, concept = self.random.choice(commands), self.random.choice(CONCEPTS)
        mark = f"{self.number}-{len(self.reports)}"
        report = {"action": command.__name__, "concept": concept, "reason": mark}
        try:
            report |= command(concept, mark)
        except NotFoundError as error:  # nothing to restore, no such version yet
            report |= {"refused": str(error)}
        except Exception as error:  # noqa: BLE001 - each one is a finding
            where = traceback.format_exc(limit=-4)
            report |= {"failed": f"{type(error).__name__}: {error}", "where": where}
        self.reports.append(report)

    def erase(self, concept: str, reason: str) -> dict[str, Any]:
        """Registers a new shift, as erasing does once it is found."""
        shift = self.new_shift(concept)
        registry = self.workspace.registry
        with registry.trainings.run(self.base.name, concept, {"seed": self.number}) as log:
            log.metric(1, loss=self.random.random())
            version = register_shift(
                self.workspace, log, shift, {"rank": RANK}, action="erase", reason=reason
            )
        return {"version": version.version, "digest": version.digest}

    def restore(self, concept: str, reason: str) -> dict[str, Any]:
        """Takes the active shift out."""
        api.restore(self.workspace, [concept], reason=reason)
        return {}

    def activate(self, concept: str, reason: str) -> dict[str, Any]:
        """Makes one of the first versions active again."""
        name = f"{concept}@{self.random.randint(1, 3)}"
        (result,) = api.erase(self.workspace, [name], reason=reason)
        return {"version": result.version, "digest": result.digest}

    def compose(self, concept: str, reason: str) -> dict[str, Any]:
        """Exports what is active, but for one concept."""
        plan = api.plan_composition(self.workspace, api.Selection(without=[concept]))
        target = self.folder / f"{reason}.safetensors"
        export = api.export_composition(
            self.workspace, plan, target, request=api.ReleaseRequest(reason=reason)
        )
        target.unlink()
        return {"version": export.version, "digest": export.digest}

    def new_shift(self, concept: str) -> ConceptShift:
        """A small shift that no other one equals."""
        width = self.workspace_width
        return ConceptShift(
            concept=concept,
            aliases=(),
            kind="style",
            method="closed-form",
            base_digest=self.base.digest,
            text_encoder_digest=self.base.text_encoder_digest,
            support=torch.linalg.qr(torch.randn(width, RANK, generator=self.generator)).Q.T,
            factors={
                name: 1e-3 * torch.randn(rows, RANK, generator=self.generator)
                for name, rows in self.layers.items()
            },
            protected=("",),
            protected_digest="0" * 64,
            preserved=(),
            hyperparameters={"seed": self.number},
            metrics={},
        )

    @property
    def workspace_width(self) -> int:
        """Width of the text embedding."""
        return int(self.workspace.pipeline.unet.config.cross_attention_dim)

    @property
    def layers(self) -> dict[str, int]:
        """Two layers -> how many rows their weights have."""
        modules = dict(self.workspace.pipeline.unet.named_modules())
        return {name: modules[name].weight.shape[0] for name in self.base.layers[:2]}


def work(settings: Settings, number: int, folder: Path, start: Any, seconds: float) -> None:
    """What a process does: waits for the others, opens the registry, works, writes its reports."""
    torch.set_num_threads(1)
    slept = {"database": Counting(), "lock": Counting()}
    tenacity.nap.time = slept["database"]  # type: ignore[attr-defined]
    lock.time = slept["lock"]  # type: ignore[attr-defined]
    outcome: dict[str, Any] = {"reports": []}
    start.wait()
    try:
        began = time.monotonic()
        writer = Writer(settings, number, folder)
        outcome["reports"] = writer.reports
        outcome["first use"] = time.monotonic() - began
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(writer.reports) < COMMANDS:
            writer.step()
    except Exception as error:  # noqa: BLE001 - each one is a finding
        outcome["failed"] = f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-6)}"
    outcome["conflicts"] = {name: counting.sleeps for name, counting in slept.items()}
    (folder / f"{number}.json").write_text(json.dumps(outcome), encoding="utf-8")


def judge(settings: Settings, outcomes: list[dict[str, Any]]) -> list[str]:
    """What does not hold."""
    problems = [outcome["failed"] for outcome in outcomes if "failed" in outcome]
    reports = [report for outcome in outcomes for report in outcome["reports"]]
    problems += [
        f"{r['action']} {r['concept']}: {r['failed']}\n{r['where']}"
        for r in reports
        if "failed" in r
    ]
    workspace = api.open_workspace(settings)
    base = workspace.base.name
    audit = workspace.audit.verify()
    problems += audit.problems
    events = workspace.audit.events()
    by_reason = {event.reason: event for event in events if event.action != "init"}
    done = {r["reason"]: r for r in reports if not r.keys() & {"refused", "failed"}}
    if by_reason.keys() != done.keys():
        problems.append(f"events and commands differ: {sorted(by_reason.keys() ^ done.keys())}")

    stored = workspace.registry.shifts.by_concept(base)
    kept = {(name, v.version): v.digest for name, found in stored.items() for v in found}
    made = {
        (r["concept"], r["version"]): r["digest"] for r in done.values() if r["action"] == "erase"
    }
    if kept != made:
        problems.append(f"versions that differ: {sorted(set(kept.items()) ^ set(made.items()))}")
    releases = {v.version: v.export_digest for v in workspace.registry.compositions.all(base)}
    exported = {r["version"]: r["digest"] for r in done.values() if r["action"] == "compose"}
    if releases != exported:
        problems.append(f"releases that differ: {sorted(releases.keys() ^ exported.keys())}")

    # The chain's order, played: each command must have found and left what it says.
    active: dict[str, int] = {}
    for event in events:
        if event.action in ("erase", "activate"):
            (name,), version = event.concepts, event.details["version"]
            active[name] = version
            if (report := done.get(event.reason)) and report["version"] != version:
                problems.append(f"{event.action} {name}: said {report['version']}, wrote {version}")
        elif event.action == "restore":
            (name,) = event.concepts
            found = active.pop(name, None)
            if found != event.details["version"]:
                problems.append(
                    f"event {event.sequence} restores {name}@{event.details['version']}, "
                    f"and {found} was active"
                )
    now = {version.concept: version.version for version in workspace.registry.shifts.active(base)}
    if now != active:
        problems.append(f"active is {now}, and the audit trail says {active}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--tracking-uri")
    arguments = parser.parse_args()
    # Forked, so that imports are paid for once and all processes really begin together.
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shared = Settings(folder / "home", miniature.NAME, arguments.tracking_uri)
        numbers = range(arguments.processes)
        homes = {
            n: folder / f"home-{n}" if arguments.tracking_uri else shared.home for n in numbers
        }
        start = context.Barrier(arguments.processes)
        processes = [
            context.Process(
                target=work,
                args=(replace(shared, home=homes[n]), n, folder, start, arguments.seconds),
            )
            for n in numbers
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        outcomes = [json.loads((folder / f"{n}.json").read_text(encoding="utf-8")) for n in numbers]
        problems = judge(shared, outcomes)
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        for name, number in outcome["conflicts"].items():
            counts[f"waited for {name}"] += number
        for report in outcome["reports"]:
            counts[report["action"] + (" (refused)" if "refused" in report else "")] += 1
    first = max(outcome.get("first use", 0.0) for outcome in outcomes)
    summary = dict(sorted(counts.items())) | {"first use, longest, s": round(first, 1)}
    print(json.dumps(summary | {"problems": problems}, indent=2))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
