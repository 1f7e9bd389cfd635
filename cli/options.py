"""What commands share: options, and what follows from them."""

import functools
import gc
import inspect
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer
from rich.console import RenderableType
from rich.markup import escape
from rich.text import Text

from shiftreg import api
from shiftreg.errors import InvalidInputError

from .console import data_console, message_console, print_line, safe
from .failures import BAD_INPUT, reported

if TYPE_CHECKING:
    from shiftreg.api.values import Observer
    from shiftreg.api.workspace import Workspace
    from shiftreg.settings import Settings

Panel = Literal["Concepts", "Models", "Measure", "Evidence", "Setup"]
"""Where the help lists a command."""

_SHARED, _TRAIL, _ENGINE = "Shared options", "Audit trail", "Engine"


def option(panel: str, *names: str, **details: Any) -> Any:
    """An option in a panel of the help."""
    return typer.Option(*names, rich_help_panel=panel, **details)


@dataclass(frozen=True)
class Common:
    """The options of every command, and what follows from them."""

    home: Annotated[
        Path | None,
        option(
            _SHARED,
            metavar="FOLDER",
            help="Folder of the registry (or SHIFTREG_HOME; .shiftreg by default).",
        ),
    ] = None
    base: Annotated[
        str | None,
        option(
            _SHARED,
            metavar="NAME",
            help="Base model to work on (or SHIFTREG_BASE; miniature by default).",
        ),
    ] = None
    tracking_uri: Annotated[
        str | None,
        option(
            _SHARED,
            metavar="URI",
            help="MLflow server of the registry (or SHIFTREG_TRACKING_URI; none by default).",
        ),
    ] = None
    as_json: Annotated[bool, option(_SHARED, "--json", help="Print one JSON document.")] = False
    quiet: Annotated[bool, option(_SHARED, "--quiet", "-q", help="Print the result only.")] = False
    traceback: Annotated[
        bool, option(_SHARED, "--traceback", help="Show where an error occurred.")
    ] = False

    def settings(self, signing_key: Path | None = None) -> "Settings":
        """Settings from flags, environment and project file."""
        from shiftreg.settings import load_settings

        return load_settings(self.home, self.base, self.tracking_uri, signing_key=signing_key)

    writes: ClassVar[bool] = False
    """Whether the command changes the registry: then its home must be writable."""

    def cause(self) -> dict[str, str]:
        """Why something is done; empty for commands that only read."""
        return {}

    def workspace(self, signing_key: Path | None = None, *, dry_run: bool = False) -> "Workspace":
        """Opens the registry; the first time in a process, this takes a second or more."""
        settings = self.settings(signing_key)
        console = message_console()
        console.quiet = self.quiet or not console.is_terminal
        with console.status("opening the registry"):
            reading = dry_run or not self.writes
            return api.open_workspace(settings, reading=reading, warn=self.note, **self.cause())

    def progress(self) -> "AbstractContextManager[Observer]":
        """An observer for long work, silent if the output is for a machine."""
        from .progress import watched

        if not gc.isenabled():
            gc.freeze()  # modules need not be searched
            gc.enable()

        return watched(quiet=self.quiet or self.as_json)

    def show(self, value: object, *rendered: RenderableType) -> None:
        """Prints a result: the value as JSON, or else the renderings of it."""
        if self.as_json:
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

    def plan(
        self,
        value: object,
        *rendered: RenderableType,
        dry_run: bool,
        note: str = "nothing was changed.",
    ) -> bool:
        """Prints a plan: as the result of a dry run, or else as a preview.

        Returns:
            Whether this is all that was asked for.
        """
        if dry_run:
            self.show(value, *rendered)
            self.note(f"Dry run: {note}")
        else:
            self.preview(*rendered)
        return dry_run

    def note(self, text: str) -> None:
        """Prints a remark on stderr."""
        if not self.quiet:
            print_line(message_console(), text)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Asks before something that must not happen by accident.

        Raises:
            InvalidInputError: Nobody can be asked.
            typer.Exit: The answer was no.
        """
        if yes:
            return
        if not sys.stdin.isatty():
            raise InvalidInputError(
                "This needs confirmation, and there is no terminal to ask on. Add --yes."
            )
        try:
            # Not typer.confirm: that writes to stdout, which may be read as JSON.
            answer = message_console().input(Text(f"{safe(question)} [y/N] "))
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            self.note("Nothing was changed.")
            raise typer.Exit(BAD_INPUT)


@dataclass(frozen=True)
class Writing(Common):
    """The options of every command that leaves an event in the audit trail."""

    reason: Annotated[str, option(_TRAIL, metavar="TEXT", help="Why this is done.")] = ""
    request: Annotated[
        str, option(_TRAIL, metavar="REF", help="Reference of the request being answered.")
    ] = ""
    licence: Annotated[
        str, option(_TRAIL, metavar="REF", help="Reference of the licence being applied.")
    ] = ""

    writes: ClassVar[bool] = True

    def cause(self) -> dict[str, str]:
        """What was given, for the events of this command."""
        given = {"reason": self.reason, "request": self.request, "licence": self.licence}
        return {name: text.strip() for name, text in given.items() if text.strip()}

    def require_reason(self, missing: str) -> None:
        """Refuses to go on without ``--reason``.

        Raises:
            typer.BadParameter: No reason, with what is missing.
        """
        if not self.reason.strip():
            raise typer.BadParameter(missing)


commands = typer.Typer()
"""All that is declared by :func:`command`, and groups of it."""


def command(
    place: Panel | typer.Typer, *lines: str, name: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a function a command with the shared options; see :func:`with_common`.

    Args:
        place: Where the help lists it, or the group that it belongs to.
        *lines: Examples for the end of its help.
        name: The function's by default.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        group, panel = (commands, place) if isinstance(place, str) else (place, None)
        named = group.command(
            name or function.__name__, epilog=examples(*lines), rich_help_panel=panel
        )
        return named(with_common(function))

    return register


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


# Of arguments and options that name what is read.
FILE = {"metavar": "FILE", "exists": True, "dir_okay": False}
FOLDER = {"metavar": "FOLDER", "exists": True, "file_okay": False}

_REPEATED = "Comma-separated or repeated."
ONLY = {"metavar": "A,B", "help": f"Erase only these concepts. {_REPEATED}"}
WITHOUT = {"metavar": "A,B", "help": f"Exclude these concepts. {_REPEATED}"}

OnlyOption = Annotated[list[str] | None, typer.Option(**ONLY)]
WithoutOption = Annotated[list[str] | None, typer.Option(**WITHOUT)]
AliasOption = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="Another name for the concept. Repeat.")
]
ProtectOption = Annotated[
    list[str] | None,
    typer.Option(metavar="PROMPT", help="Also keep this prompt exactly as it is. Repeat."),
]
ClassifierOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Classifier of images; see shiftreg classifier train."),
]
ImagesOption = Annotated[int, typer.Option(min=1, metavar="N", help="Images per prompt.")]
StepsOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Denoising steps; the base's by default.")
]
GuidanceOption = Annotated[
    float | None, typer.Option(min=0, metavar="X", help="Guidance scale; the base's by default.")
]
EngineOption = Annotated[
    Literal["auto", "local", "processes", "ray"],
    typer.Option(
        help="Where the work runs: in this process, in several, or on the Ray cluster at "
        "RAY_ADDRESS. The results are the same.",
        rich_help_panel=_ENGINE,
    ),
]
WorkersOption = Annotated[
    int | None,
    option(
        _ENGINE,
        min=1,
        metavar="N",
        help="Tasks to run at once; as many as processors and memory allow by default.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
