"""What commands share: options that all of them take, and what those decide."""

import functools
import inspect
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from rich.console import RenderableType
from rich.markup import escape
from rich.text import Text

from shiftreg.errors import InvalidInputError

from .console import data_console, message_console, print_line, safe
from .failures import BAD_INPUT, reported

if TYPE_CHECKING:
    from shiftreg.api.values import Observer
    from shiftreg.api.workspace import Workspace
    from shiftreg.settings import Settings

_PANEL = "Shared options"
_TRAIL = "Audit trail"


@dataclass(frozen=True)
class Common:
    """The options of every command, and what they decide."""

    home: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the registry (or SHIFTREG_HOME; .shiftreg by default).",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None
    base: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Base to work on (or SHIFTREG_BASE; miniature by default).",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="MLflow server of the registry (or SHIFTREG_TRACKING_URI; none by default).",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON document.", rich_help_panel=_PANEL),
    ] = False
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Show the result alone.", rich_help_panel=_PANEL),
    ] = False
    traceback: Annotated[
        bool,
        typer.Option("--traceback", help="Show where an error arose.", rich_help_panel=_PANEL),
    ] = False

    def settings(self, signing_key: Path | None = None) -> "Settings":
        """Settings after flags, environment and project file; the key is a flag of few commands."""
        from shiftreg.settings import load_settings

        return load_settings(self.home, self.base, self.tracking_uri, signing_key=signing_key)

    def cause(self) -> dict[str, str]:
        """Why something is done; empty for commands that only read."""
        return {}

    writes: ClassVar[bool] = False
    """Whether the command changes the registry: then its home must be one that can be written."""

    def workspace(self, signing_key: Path | None = None, *, dry_run: bool = False) -> "Workspace":
        """Opens the registry; the first time in a process, this takes some seconds."""
        settings = self.settings(signing_key)
        console = message_console()
        console.quiet = self.quiet or not console.is_terminal
        with console.status("opening the registry"):
            from shiftreg import api

            reading = dry_run or not self.writes
            return api.open_workspace(settings, reading=reading, **self.cause())

    def progress(self) -> "AbstractContextManager[Observer]":
        """An observer for long work, silent if a machine is listening."""
        from .progress import watched

        return watched(quiet=self.quiet or self.as_json)

    def show(self, value: object, *rendered: RenderableType) -> None:
        """Prints a result: the value as JSON, or else the renderings of it."""
        if self.as_json:
            from shiftreg import api

            document = json.dumps(api.to_json(value), indent=2)
            data_console().print(document, soft_wrap=True)
            return
        for part in rendered:
            data_console().print(part)

    def preview(self, *rendered: RenderableType) -> None:
        """Prints what is about to be done, for a reader who may still stop it."""
        if not (self.quiet or self.as_json):
            for part in rendered:
                data_console().print(part)

    def note(self, text: str) -> None:
        """Prints a remark on stderr."""
        if not self.quiet:
            print_line(message_console(), text)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Asks before something that is not to happen by accident.

        Raises:
            InvalidInputError: Nobody can be asked.
            typer.Exit: The answer was no.
        """
        if yes:
            return
        if not sys.stdin.isatty():
            raise InvalidInputError(
                "This must be confirmed, and there is no terminal to ask in. Add --yes."
            )
        try:
            # Not typer.confirm: that writes to stdout, where a JSON document may be expected.
            answer = message_console().input(Text(f"{safe(question)} [y/N] "))
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            self.note("Nothing was changed.")
            raise typer.Exit(BAD_INPUT)


@dataclass(frozen=True)
class Writing(Common):
    """The options of every command that leaves an event in the audit trail."""

    reason: Annotated[
        str,
        typer.Option(metavar="TEXT", help="Why.", show_default=False, rich_help_panel=_TRAIL),
    ] = ""
    request: Annotated[
        str,
        typer.Option(
            metavar="REF",
            help="Reference of the request that this answers.",
            show_default=False,
            rich_help_panel=_TRAIL,
        ),
    ] = ""
    licence: Annotated[
        str,
        typer.Option(
            metavar="REF",
            help="Reference of the licence that this rests on.",
            show_default=False,
            rich_help_panel=_TRAIL,
        ),
    ] = ""

    writes: ClassVar[bool] = True

    def cause(self) -> dict[str, str]:
        """What was said, for the events of this command."""
        said = {"reason": self.reason, "request": self.request, "licence": self.licence}
        return {name: text.strip() for name, text in said.items() if text.strip()}


def with_common(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the shared options, and reports what fails in it.

    The command takes them as its first argument, a :class:`Common` or a :class:`Writing`. Typer
    reads options off a signature; the one made here has the command's own, then the shared ones.
    """
    first, *own = inspect.signature(command).parameters.values()
    kind = first.annotation
    shared = _shared_parameters(kind)

    @functools.wraps(command)
    def run(**values: Any) -> None:
        common = kind(**{parameter.name: values.pop(parameter.name) for parameter in shared})
        with reported(show_traceback=common.traceback):
            command(common, **values)

    # Typer keeps the line breaks of all paragraphs but the first; these are meant to flow.
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    run.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {}  # the signature says it; Typer would evaluate these as well, twice
    return run


@functools.cache
def _shared_parameters(kind: Callable[..., Common]) -> tuple[inspect.Parameter, ...]:
    """The options of :class:`Common` or a kind of it, as parameters that a command can take."""
    return tuple(
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(kind).parameters.values()
    )


def examples(*lines: str) -> str:
    """The end of a command's help: lines that can be copied to a shell."""
    return "[bold]Examples[/bold]\n" + "\n".join(f"  {escape(line)}" for line in lines)


OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B", help="Erase these concepts and no others. Repeat, or separate by commas."
    ),
]
WithoutOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B", help="Leave these concepts' shifts out. Repeat, or separate by commas."
    ),
]
ClassifierOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Who says what an image shows; see shiftreg classifier train.",
        show_default=False,
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]
