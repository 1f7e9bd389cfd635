"""Options of commands that share their work out, and the engine that they mean."""

from typing import Annotated, Literal

import typer

_PANEL = "Engine"

EngineOption = Annotated[
    Literal["auto", "local", "processes", "ray"],
    typer.Option(
        help="Where the work is done: this process, processes of this machine, or the Ray cluster "
        "at RAY_ADDRESS. The results are the same.",
        rich_help_panel=_PANEL,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Pieces of work at once; as many as processors and memory allow by default.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
