"""The command line: thin. Each command imports what it needs when it runs, so that all of them start fast.

A user's mistake is one line and exit code 2; anything that fails while running is one line and 1.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from . import __version__
from .errors import SettingsError

app = typer.Typer(
    name="gateway",
    help="A local LLM gateway: OpenAI-compatible inside, every provider's native API outside.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"gateway {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What every command has."""


@app.command()
def serve(
    config: Annotated[
        str | None,
        typer.Option(help="The settings file. Without: GATEWAY_CONFIG, ./gateway.toml, your config folder."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on [default: 127.0.0.1].")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port [default: 8080]; 0 is any free one.")
    ] = None,
) -> None:
    """Start the gateway."""
    import msgspec

    from . import server, settings, welcome
    from .app import build
    from .telemetry import logs

    chosen = settings.load(settings.find(config, os.environ))
    given = {"host": host, "port": port}
    listening = msgspec.structs.replace(
        chosen.server, **{name: value for name, value in given.items() if value is not None}
    )
    chosen = msgspec.structs.replace(chosen, server=listening)
    logs.configure(chosen.log.level)
    gateway = build(chosen, os.environ)
    sock = server.listen(listening.host, listening.port)
    needs_key = settings.gateway_key(chosen, os.environ) is not None
    text = welcome.text(server.url_of(sock), gateway.plans, needs_key=needs_key)
    server.run(gateway, sock, on_start=lambda: print(text, flush=True))


def main() -> None:
    """The entry point of the `gateway` command."""
    try:
        app(standalone_mode=True)
    except SettingsError as error:
        print(f"gateway: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
