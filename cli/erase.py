"""Commands that change what generates: ``erase``, ``restore``, ``refresh``."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from shiftreg import api
from shiftreg.concepts import Kind

from .failures import fail_unless
from .options import (
    AliasOption,
    DryRunOption,
    EngineOption,
    ProtectOption,
    WorkersOption,
    Writing,
    YesOption,
    command,
)
from .parsing import read_values
from .render import concepts, erasures, make_panel, make_table, number, pairs, plain, quoted
from .render import warnings as notes

if TYPE_CHECKING:
    from shiftreg.api import Engine, EngineName, Workspace
    from shiftreg.api.values import ErasurePlan

ForceActive = Annotated[
    bool,
    typer.Option("--force", help="Make a shift active also where most of its concept is left."),
]


@command(
    "Concepts",
    "shiftreg erase Caravaggio",
    'shiftreg erase "Van Gogh" --alias "Vincent van Gogh" --dry-run',
    'shiftreg erase Picasso --reason "the heirs asked" --request C-17',
    "shiftreg erase Monet --samples 2",
    "shiftreg erase tench --kind object --method srs-me --set batch_size=4",
    "shiftreg erase Caravaggio Picasso Cezanne --method srs-me --workers 3",
    "shiftreg erase Caravaggio@1",
)
def erase(
    common: Writing,
    concept: Annotated[
        list[str],
        typer.Argument(metavar="CONCEPT", help="Names; NAME@VERSION reactivates a stored version."),
    ],
    *,
    alias: AliasOption = None,
    kind: Annotated[Kind, typer.Option(help="Selects the prompt templates to erase.")] = "style",
    method: Annotated[
        str, typer.Option(metavar="NAME", help="See: shiftreg methods")
    ] = "closed-form",
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Hyper-parameter of the method. Repeat."),
    ] = None,
    protect: ProtectOption = None,
    profile: Annotated[
        str,
        typer.Option(
            metavar="PROFILE",
            help="How other concepts' names are kept: exact, content:TOLERANCE or svd:TOLERANCE.",
        ),
    ] = "exact",
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="The same seed gives the same shift.")
    ] = 0,
    samples: Annotated[
        int, typer.Option(min=0, max=16, metavar="N", help="Images to make of each prompt, too.")
    ] = 0,
    force: ForceActive = False,
    engine: EngineOption = "auto",
    workers: WorkersOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Make a model forget concepts: each gets a weight shift, registered and active.

    The base is never changed, so restoring is exact. Protected prompts stay exactly as they are;
    preserved prompts are disturbed as little as possible.

    Each ends with a measurement: a shift that hardly changes its concept is kept, and not active.

    Methods that train erase several concepts at once. One that fails does not stop the others:
    they are registered, and the error says which are missing.
    """
    if alias and len(concept) > 1:
        raise typer.BadParameter("--alias belongs to one concept, but several are given.")
    hyperparameters = read_values(options)
    workspace = common.workspace(dry_run=dry_run)
    planned = api.plan_erasures(
        workspace,
        concept,
        aliases=alias or (),
        kind=kind,
        method=method,
        options=hyperparameters,
        protect=protect or (),
        profile=profile,
    )
    if common.plan(planned.plans, *map(render_plan, planned.plans), dry_run=dry_run):
        return
    runs_on = _engine(workspace, engine, workers, [plan.method for plan in planned.plans])
    with common.progress() as observe, runs_on:
        results = api.erase(
            workspace,
            planned,
            reason=common.reason,
            seed=seed,
            engine=runs_on,
            force=force,
            observe=observe,
        )
        if samples:
            results = tuple(
                replace(
                    result,
                    samples=api.generate_samples(
                        workspace,
                        f"{result.plan.concept}@{result.version}",
                        seeds=range(samples),
                        observe=observe,
                    ),
                )
                for result in results
            )
    common.show(results, erasures(results))
    fail_unless(all(result.erased for result in results))


@command(
    "Concepts",
    'shiftreg restore Picasso --reason "licence signed"',
    'shiftreg restore Picasso "Van Gogh" --reason "licence signed" --yes',
    'shiftreg restore Picasso --reason "licence signed" --dry-run',
)
def restore(
    common: Writing,
    concept: Annotated[
        list[str], typer.Argument(metavar="CONCEPT", help="Names of erased concepts.")
    ],
    *,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Let erased concepts generate again, exactly as before.

    Their shifts stay in the registry: "shiftreg erase NAME@VERSION" applies one again. A reason
    is required.
    """
    common.require_reason("--reason is missing: why are they restored?")
    workspace = common.workspace(dry_run=dry_run)
    states = tuple(api.show_concept(workspace, name).state for name in concept)
    erased = ", ".join(state.concept for state in states if state.state == "erased")
    if dry_run:
        common.show(states, concepts(states))
    if erased:
        common.note(f"Will generate again from base {common.settings().base}: {erased}")
    if dry_run:
        common.note("Dry run: nothing was changed.")
        return
    if erased:
        common.confirm("Restore?", yes=yes)
    restored = api.restore(workspace, concept, reason=common.reason)
    common.show(restored, concepts(restored))


@command(
    "Concepts",
    "shiftreg refresh",
    'shiftreg refresh Caravaggio --reason "Picasso was registered since"',
    "shiftreg refresh --dry-run",
)
def refresh(
    common: Writing,
    concept: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONCEPT", help="Names; all stale shifts by default."),
    ] = None,
    *,
    force: ForceActive = False,
    engine: EngineOption = "auto",
    workers: WorkersOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Make shifts protect the concepts that were registered after them.

    Each becomes a new version that names its predecessor, by the same method and options.
    """
    workspace = common.workspace(dry_run=dry_run)
    stale = api.plan_refresh(workspace, concept)
    if not stale and not dry_run:
        common.show(())
        common.note("No shift is stale: nothing to do.")
        return
    if common.plan(stale, render_stale(stale), dry_run=dry_run):
        return
    names = dict(stale)
    methods = [s.method for s in api.list_concepts(workspace) if s.concept in names]
    runs_on = _engine(workspace, engine, workers, methods)
    with common.progress() as observe, runs_on:
        results = api.refresh(
            workspace,
            concept,
            reason=common.reason,
            engine=runs_on,
            force=force,
            observe=observe,
        )
    common.show(results, erasures(results))
    fail_unless(all(result.erased for result in results))


def _engine(
    workspace: "Workspace", engine: "EngineName", workers: int | None, methods: Sequence[str]
) -> "Engine":
    """Where shifts of these methods are trained."""
    trains = {method.name: method.trains for method in api.list_methods()}
    return api.choose_engine(
        workspace,
        engine,
        workers=workers,
        tasks=len(methods),
        long=any(trains.get(method, False) for method in methods),
    )


def render_plan(plan: "ErasurePlan") -> RenderableType:
    """What an erasure would do, in a panel."""
    capacity = plan.capacity
    rows = {
        "aliases": ", ".join(plan.aliases),
        "erased prompts": quoted(plan.prompts),
        "preserved": f"{quoted(plan.preserved)}: change as little as possible",
    }
    if plan.protected:
        rows["protected"] = f"{quoted(plan.protected)}: stay exactly as they are"
    if capacity:
        rows["capacity"] = (
            f"{capacity['free']:.0f} of {capacity['width']:.0f} dimensions are free (m); "
            f"the concept reaches {capacity['support']:.0f} of them (q)"
        )
        rows["predicted"] = (
            f"{capacity['predicted_residual']:.1%} of the concept stays; "
            f"|delta|/|W| {number(capacity['predicted_ratio'])}"
        )
    rows["options"] = plain(plan.hyperparameters)
    title = f"Erase {plan.concept} ({plan.kind}) from {plan.base} by {plan.method}"
    return make_panel(title, pairs(rows), *notes(plan.warnings))


def render_stale(shifts: Sequence[tuple[str, tuple[str, ...]]]) -> RenderableType:
    """Shifts that a refresh would regenerate, and why."""
    rows = ((name, ", ".join(towards)) for name, towards in shifts)
    return make_table("Shift", "Does not protect", rows=rows)
