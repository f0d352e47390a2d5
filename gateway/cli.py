"""The command line: thin. Each command imports what it needs when it runs, so that all of them start fast.

A user's mistake is one line on standard error and exit code 2, never a traceback.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import __version__
from .errors import SettingsError

if TYPE_CHECKING:
    from .simulator import Simulator

_PORT = click.IntRange(0, 65_535)
_CONFIG = click.option(
    "--config",
    metavar="FILE",
    help="The settings. Without: GATEWAY_CONFIG, ./gateway.toml, gateway/gateway.toml in your config folder.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway", message="%(prog)s %(version)s")
def commands() -> None:
    """A local LLM gateway: OpenAI-compatible inside, every provider's native API outside."""


@commands.command()
@_CONFIG
@click.option("--host", help="The address to listen on; 127.0.0.1 unless the settings say another.")
@click.option("--port", type=_PORT, help="The port; 8080 unless the settings say another, 0 is any free one.")
def serve(config: str | None, host: str | None, port: int | None) -> None:
    """Start the gateway."""
    import msgspec

    from . import server, settings, welcome
    from .app import build
    from .telemetry import logs

    chosen = settings.load(settings.find(config, os.environ))
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    listening = msgspec.structs.replace(chosen.server, **given)
    chosen = msgspec.structs.replace(chosen, server=listening)
    logs.configure(chosen.log.level)
    gateway = build(chosen, os.environ)
    sock = server.listen(listening.host, listening.port)
    text = welcome.text(server.url_of(sock), gateway.plans, needs_key=gateway.needs_key)
    server.run(gateway, sock, on_start=lambda: _show(text))


def _show(text: str) -> None:
    """Prints, also when nobody reads: `gateway serve | head` is no failure."""
    try:
        print(text, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (for the rest of the process)


@commands.command()
@click.argument("file", metavar="FILE")
@_CONFIG
@click.option("--model", help="Ask for this model instead of the one in the file.")
@click.option(
    "--strict", is_flag=True, help="Refuse instead of dropping fields, as x-gateway-strict: 1 does."
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, bodies exact.")
def explain(file: str, config: str | None, model: str | None, strict: bool, as_json: bool) -> None:
    """Show what a request would become, without calling anyone.

    FILE holds the body of a chat completion; - is standard input. No key is needed. Exit code 1 says that
    nobody can serve the request, 2 that there is a mistake in it or in the settings.
    """
    import msgspec

    from . import explain as explaining
    from . import intake, settings
    from .app import connect
    from .errors import RequestError

    core = connect(settings.load(settings.find(config, os.environ)), os.environ)
    body = _read(file)
    try:
        request = intake.read_request(intake.with_model(body, model) if model else body, strict=strict)
    except RequestError as error:
        raise SettingsError(f"{file}: {error.message}") from None
    try:
        explanation = explaining.explain(core.router, request)
    except RequestError as error:
        print(f"gateway: {file}: {error.message}", file=sys.stderr)
        sys.exit(1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON is, whatever the terminal
    if as_json:
        _show(msgspec.json.format(msgspec.json.encode(explanation)).decode())
    else:
        _show(explaining.text(explanation))
    on = [plan.name for plan in core.plans if plan.settings.enabled]
    if not explaining.is_servable(explanation, on):
        sys.exit(1)


def _read(file: str) -> bytes:
    """What the file or standard input holds. Raises `SettingsError`."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None


@commands.command()
@click.option("--port", type=_PORT, default=8090, show_default=True, help="The port; 0 is any free one.")
@click.option("--faults", is_flag=True, help="Print the kinds of faults, and end.")
def simulate(port: int, faults: bool) -> None:
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
    except KeyboardInterrupt:
        return


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
        commands(prog_name="gateway")
    except SettingsError as error:
        print(f"gateway: {error}", file=sys.stderr)
        sys.exit(2)
