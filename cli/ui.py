"""The command that opens the registry in a browser: ``ui``."""

import os
from typing import Annotated

import typer

from shiftreg import api

from .options import Common, command


@command("Setup", "shiftreg ui", "shiftreg ui --port 8080")
def ui(
    common: Common,
    *,
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="PORT", help="Port to listen on.")
    ] = 5000,
) -> None:
    """Serve MLflow's pages for the registry: runs, metrics, images, versions."""
    settings = common.settings()
    api.open_workspace(settings)  # so that the first use shows an empty registry, not an error
    arguments = api.ui_command(settings, host, port)
    common.note(f"Registry: http://{host}:{port} (Ctrl-C to stop)")
    # MLflow takes this process over, and with it Ctrl-C and the exit code.
    os.execvp(arguments[0], arguments)  # noqa: S606 - an argument list of ours, no shell
