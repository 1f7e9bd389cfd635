"""Commands that change what generates: ``erase``, ``restore``, ``refresh``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shiftreg.concepts import Kind

from .engine_options import EngineOption, WorkersOption
from .options import (
    DryRunOption,
    Writing,
    examples,
    with_common,
)
from .parsing import read_value, split_pair

if TYPE_CHECKING:
    from shiftreg.api import Engine, EngineName, Workspace

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "shiftreg erase Caravaggio",
        'shiftreg erase "Van Gogh" --alias "Vincent van Gogh" --reason "request 17" --dry-run',
        "shiftreg erase tench --kind object --method srs-me --set batch_size=4",
        "shiftreg erase Caravaggio Picasso Cezanne --method srs-me --workers 3",
        "shiftreg erase Caravaggio@1",
    )
)
@with_common
def erase(
    common: Writing,
    concept: Annotated[
        list[str],
        typer.Argument(
            metavar="CONCEPT", help="Names; NAME@VERSION makes a stored version active again."
        ),
    ],
    *,
    alias: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another name of the concept. Repeat.")
    ] = None,
    kind: Annotated[Kind, typer.Option(help="Decides the prompts that are erased.")] = "style",
    method: Annotated[
        str, typer.Option(metavar="NAME", help="See: shiftreg methods")
    ] = "closed-form",
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Hyper-parameter of the method. Repeat."),
    ] = None,
    protect: Annotated[
        list[str] | None,
        typer.Option(metavar="PROMPT", help="Leave this prompt exactly as it is, too. Repeat."),
    ] = None,
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
    engine: EngineOption = "auto",
    workers: WorkersOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Make a model forget concepts: each gets a weight shift, registered and active.

    The base is never changed, and so restoring is exact. What is protected stays exactly as it
    is; what is preserved is disturbed as little as possible.

    Several concepts are erased at once where the method trains. One that fails does not stop the
    others: they are registered, and the error says which are missing.
    """
    if alias and len(concept) > 1:
        raise typer.BadParameter("--alias belongs to one concept, and several are named.")
    pairs = (split_pair(text, "--set") for text in options or ())
    hyperparameters = {key: read_value(value) for key, value in pairs}
    workspace = common.workspace(dry_run=dry_run)
    from shiftreg import api

    from . import render, render_plans

    request: dict[str, Any] = {
        "aliases": alias or (),
        "kind": kind,
        "method": method,
        "options": hyperparameters,
        "protect": protect or (),
        "profile": profile,
    }
    plans = api.plan_erasures(workspace, concept, **request)
    panels = [render_plans.erasure_plan(plan) for plan in plans]
    if dry_run:
        common.show(plans, *panels)
        common.note("Dry run: nothing was changed.")
        return
    common.preview(*panels)
    done_by = _engine(workspace, engine, workers, [plan.method for plan in plans])
    with common.progress() as observe, done_by:
        results = api.erase(
            workspace,
            concept,
            **request,
            reason=common.reason,
            seed=seed,
            engine=done_by,
            observe=observe,
        )
    common.show(results, render.erasures(results))


@commands.command(
    epilog=examples(
        'shiftreg restore Picasso --reason "licence signed"',
        'shiftreg restore Picasso "Van Gogh" --reason "licence signed" --yes',
        'shiftreg restore Picasso --reason "licence signed" --dry-run',
    )
)
@with_common
def restore(
    common: Writing,
    concept: Annotated[
        list[str], typer.Argument(metavar="CONCEPT", help="Names of erased concepts.")
    ],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Let erased concepts generate again, exactly as they did before.

    Their shifts stay in the registry: "shiftreg erase NAME@VERSION" applies one again. A reason
    must be given.
    """
    if not common.reason.strip():
        raise typer.BadParameter("--reason is missing: why do they generate again?")
    workspace = common.workspace(dry_run=dry_run)
    from shiftreg import api

    from . import render

    states = tuple(api.show_concept(workspace, name).state for name in concept)
    erased = ", ".join(state.concept for state in states if state.state == "erased")
    if dry_run:
        common.show(states, render.concepts(states))
    if erased:
        common.note(f"Will generate again from base {common.settings().base}: {erased}")
    if dry_run:
        common.note("Dry run: nothing was changed.")
        return
    if erased:
        common.confirm("Restore?", yes=yes)
    restored = api.restore(workspace, concept, reason=common.reason)
    common.show(restored, render.concepts(restored))


@commands.command(
    epilog=examples(
        "shiftreg refresh",
        'shiftreg refresh Caravaggio --reason "Picasso was registered since"',
        "shiftreg refresh --dry-run",
    )
)
@with_common
def refresh(
    common: Writing,
    concept: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONCEPT", help="Names; all stale shifts by default."),
    ] = None,
    *,
    engine: EngineOption = "auto",
    workers: WorkersOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Make shifts protect the concepts that were registered after them.

    Each becomes a new version that names its predecessor, by the same method and options.
    """
    workspace = common.workspace(dry_run=dry_run)
    from shiftreg import api

    from . import render, render_plans

    stale = api.plan_refresh(workspace, concept)
    if dry_run:
        common.show(stale, render_plans.stale(stale))
        common.note("Dry run: nothing was changed.")
        return
    if not stale:
        common.show(())
        common.note("No shift is stale: nothing to do.")
        return
    common.preview(render_plans.stale(stale))
    concepts = dict(stale)
    methods = [s.method for s in api.list_concepts(workspace) if s.concept in concepts]
    done_by = _engine(workspace, engine, workers, methods)
    with common.progress() as observe, done_by:
        results = api.refresh(
            workspace, concept, reason=common.reason, engine=done_by, observe=observe
        )
    common.show(results, render.erasures(results))


def _engine(
    workspace: "Workspace", engine: "EngineName", workers: int | None, methods: Sequence[str]
) -> "Engine":
    """Where shifts of these methods are found."""
    from shiftreg import api

    trains = {method.name: method.trains for method in api.list_methods()}
    return api.choose_engine(
        workspace,
        engine,
        workers=workers,
        tasks=len(methods),
        long=any(trains.get(method, False) for method in methods),
    )
