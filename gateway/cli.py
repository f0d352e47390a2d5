"""The command line: thin. Each command imports what it needs when it runs, so that all of them start fast.

A user's mistake is one line and exit code 2; anything that fails while running is one line and 1.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from . import __version__
from .errors import SettingsError

if TYPE_CHECKING:
    from .simulator import Simulator

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
    host: Annotated[
        str | None, typer.Option(help="The address to listen on; 127.0.0.1 unless the settings say another.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="The port; 8080 unless the settings say another, 0 is any free one."
        ),
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


@app.command()
def simulate(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 is any free one.")] = 8090,
    faults: Annotated[bool, typer.Option("--faults", help="Print the kinds of faults, and end.")] = False,
) -> None:
    """Start stand-ins that speak each provider's native API on loopback, with faults on demand."""
    import asyncio

    from . import simulator

    if faults:
        width = max(map(len, simulator.FAULTS))
        print("\n".join(f"{name:<{width}}  {what}" for name, what in simulator.FAULTS.items()))
        return
    try:
        asyncio.run(simulator.serve(port=port, ready=lambda sim: print(_simulator_welcome(sim), flush=True)))
    except OSError as error:
        raise SettingsError(f"cannot listen on port {port}: {error.strerror}") from None


def _simulator_welcome(sim: Simulator) -> str:
    urls = {name: sim.url(name) for name in sim.providers}
    width = max(map(len, urls))
    rows = "\n".join(f"  {name:<{width}}  {url}" for name, url in urls.items())
    tables = "\n".join(f'  [providers.{name}]\n  base_url = "{url}"' for name, url in urls.items())
    return f"""
Stand-ins for provider APIs  (Ctrl-C ends them)
{rows}

Any key that is not empty will do. What they answer, and what goes wrong, is set at
  http://{sim.host}:{sim.port}/_simulator/script  (docs/simulator.md; --faults lists the faults)

A gateway that calls them instead of the providers has this in its settings
{tables}
"""


def main() -> None:
    """The entry point of the `gateway` command."""
    try:
        app(standalone_mode=True)
    except SettingsError as error:
        print(f"gateway: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
