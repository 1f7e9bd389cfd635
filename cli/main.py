"""The app, and what ``shiftreg`` starts."""

import atexit
import gc
import io
import os
import sys
import warnings
from typing import Annotated

import typer

from shiftreg import __version__

from . import (  # noqa: F401 - that declares the commands
    adapter,
    attack,
    audit,
    classifier,
    compose,
    delete,
    doctor,
    erase,
    evaluate,
    foreign,
    generate,
    init,
    inspect,
    measure,
    policy,
    report,
    show,
    trace,
    ui,
    verify,
)
from .console import data_console, print_line
from .options import commands, examples

# As the help lists them: panel by panel, the most used first.
ORDER = (
    *("erase", "restore", "list", "show", "samples", "refresh", "import", "decouple", "delete"),
    *("capacity", "methods"),
    *("compose", "generate", "verify", "adapter", "inspect", "policy"),
    *("evaluate", "attack", "measure"),
    *("report", "evidence", "where"),
    *("init", "doctor", "ui"),
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.registered_commands += sorted(
    commands.registered_commands, key=lambda it: ORDER.index(it.name or "")
)
app.registered_groups += commands.registered_groups


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(data_console(), f"shiftreg {__version__}")
        raise typer.Exit


@app.callback(
    epilog=examples(
        "shiftreg erase Caravaggio",
        "shiftreg compose --without Picasso --export model.ckpt",
        "shiftreg verify model.ckpt",
    )
)
def shiftreg(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Erase concepts from diffusion models, restore them exactly, and prove both.

    Exit codes: 0 done, 1 a check failed, 2 bad input.
    """


def run() -> None:
    """Starts the app; a terminal without a character shows its escape instead."""
    # Stderr is for our progress and errors: libraries keep their bars and warnings to themselves.
    os.environ.setdefault("TQDM_DISABLE", "1")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    gc.disable()  # until there is long work, see Common: until then, it would find modules only
    atexit.register(gc.freeze)  # nor are they worth a search at the end
    app()
