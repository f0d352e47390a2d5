"""The settings: one TOML file, decoded strictly, or none at all.

Every setting is a field here with its default; `config/gateway.toml` shows them all. A mistake is one
line that names the file, the key and what is allowed. Secrets are references (`env:NAME`, `file:PATH`),
never values, and stand in memory as a type that prints `***`.
"""

from __future__ import annotations

import difflib
import re
import ssl
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from .errors import SettingsError
from .providers import PROVIDERS
from .providers.base import Provider
from .resilience.breaker import BreakerPolicy
from .resilience.retry import RetryPolicy
from .router import MODEL_NAME
from .upstream import Timeouts, tls


class Secret:
    """A value that is never shown: `reveal` is the only way to it."""

    __slots__ = ("_value", "source")

    def __init__(self, value: str, source: str) -> None:
        self._value = value
        self.source = source
        """Where it came from ("OPENAI_API_KEY", "/run/secrets/key"): this may be shown."""

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({self.source}: ***)"

    __str__ = __repr__

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a secret is not pickled")


class SecretRef:
    """Where a secret stands: `env:NAME` or `file:PATH`."""

    __slots__ = ("kind", "place")

    def __init__(self, kind: str, place: str) -> None:
        self.kind = kind
        self.place = place

    def __repr__(self) -> str:
        return f"{self.kind}:{self.place}"


MAX_SIZE = 2**40


class Size(int):
    """A size in bytes, written as a number of bytes or as text: `"20 MiB"`."""


_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)
_SECRET = re.compile(r"(env|file):(.+)")

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Amount = Annotated[int, Meta(gt=0)]


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the gateway listens and how it treats its clients. Times in seconds."""

    host: str = "127.0.0.1"
    port: Port = 8080
    api_key: SecretRef | None = None
    body_timeout: Seconds = 30
    send_timeout: Seconds = 60
    drain_timeout: Seconds = 30
    keepalive_after: Seconds = 10
    keepalive_every: Seconds = 15
    max_body: Size = Size(20 << 20)


class TimeoutSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits on calls to a provider, in seconds; what is absent is taken from the level above."""

    connect: Seconds | None = None
    first_byte: Seconds | None = None
    idle: Seconds | None = None
    content_idle: Seconds | None = None
    total: Seconds | None = None

    def over(self, base: Timeouts) -> Timeouts:
        """These limits, and those of `base` where these say nothing."""
        chosen = {f: v for f in self.__struct_fields__ if (v := getattr(self, f)) is not None}
        return msgspec.structs.replace(base, **chosen)


class ProviderSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One provider. `type` is the API it speaks, by default the one of its own name.

    Limits are a minute's: requests, tokens; `burst` requests may go at once, `concurrency` be in flight. With
    several `api_keys` each has these limits. `compatible` says that it is somebody else's server with that
    API, to which nothing is renamed and
    nothing dropped: the default for a `base_url` under another name than the type's.
    """

    type: str | None = None
    enabled: bool = True
    api_key: SecretRef | None = None
    api_keys: list[SecretRef] = []
    base_url: str | None = None
    default_model: str | None = None
    models: list[str] | None = None
    priority: int = 100
    rpm: Amount | None = None
    tpm: Amount | None = None
    input_tpm: Amount | None = None
    output_tpm: Amount | None = None
    burst: Amount | None = None
    concurrency: Amount | None = 64
    timeouts: TimeoutSettings = TimeoutSettings()
    ca_file: str | None = None
    tls_min: str = "1.3"
    compatible: bool | None = None
    options: dict[str, Any] = {}


class ModelSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is said of one model by its full name. `failover`: targets to try after it, in order.

    `context_window` is in tokens, for a model whose provider does not tell it.
    """

    failover: list[str] = []
    context_window: Amount | None = None


class RouteSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A name for an ordered list of targets (`provider/model`): order is priority.

    `failover_on_auth`: a refused key, which only its owner can mend, does not end the request.
    """

    targets: Annotated[list[str], Meta(min_length=1)]
    failover_on_auth: bool = False


class QueueSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long a request waits for its turn at a limit, in seconds, and how many may wait at once."""

    max_wait: Annotated[float, Meta(ge=0, le=3600)] = 30
    max_length: Annotated[int, Meta(ge=0)] = 1000


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`level`: "debug", "info", "warning" or "error"."""

    level: str = "info"


class VaultSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is kept of answers for the next turn: `max_age` in seconds since it was last used."""

    enabled: bool = True
    max_bytes: Size = Size(64 << 20)
    max_age: Seconds = 21_600


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be set."""

    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    timeouts: TimeoutSettings = TimeoutSettings()
    retry: RetryPolicy = RetryPolicy()
    breaker: BreakerPolicy = BreakerPolicy()
    queue: QueueSettings = QueueSettings()
    vault: VaultSettings = VaultSettings()
    providers: dict[str, ProviderSettings] = {}
    models: dict[str, ModelSettings] = {}
    routes: dict[str, RouteSettings] = {}


class ProviderPlan(Struct, frozen=True, kw_only=True):
    """A provider as settings and environment have it. `off` is why it cannot be used, None when it can."""

    name: str
    provider: Provider
    settings: ProviderSettings
    timeouts: Timeouts
    keys: list[Secret] = []
    queue: QueueSettings = QueueSettings()
    off: str | None = None

    @property
    def key(self) -> Secret | None:
        """The first key, None where the server wants none."""
        return self.keys[0] if self.keys else None

    @property
    def sources(self) -> list[str]:
        """Where the keys are from, in their order; one word for a server that wants none."""
        return [key.source for key in self.keys] or ["no key"]

    @property
    def default_model(self) -> str | None:
        return self.settings.default_model or self.provider.default_model

    @property
    def base_url(self) -> str:
        return self.settings.base_url or self.provider.base_url


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────

CONFIG_NAME = "gateway.toml"


def find(explicit: str | None, environ: Mapping[str, str]) -> Path | None:
    """The settings file: the one named, GATEWAY_CONFIG, ./gateway.toml, or the user's; None without any.

    Raises `SettingsError` when a file that was named is not there.
    """
    for named, by in ((explicit, "--config"), (environ.get("GATEWAY_CONFIG"), "GATEWAY_CONFIG")):
        if named:
            if not Path(named).is_file():
                raise SettingsError(f"{named}: no such file (named by {by})")
            return Path(named)
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".config")
    places = (Path(CONFIG_NAME), Path(home) / "gateway" / CONFIG_NAME)
    return next((path for path in places if path.is_file()), None)


def load(path: Path | None) -> Settings:
    """The settings in the file at `path`; the defaults without one. Raises `SettingsError`."""
    if path is None:
        return Settings()
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path))


_NAMED_TABLES = {"providers": ProviderSettings, "models": ModelSettings, "routes": RouteSettings}


def parse(text: str, name: str) -> Settings:
    """The settings in TOML `text`, which came from `name`. Raises `SettingsError`."""
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{name}: not valid TOML: {error}") from None
    named: dict[str, Any] = {}
    for table, type in _NAMED_TABLES.items():  # one by one, so that a complaint can name the entry
        entries = raw.pop(table, {})
        if not isinstance(entries, dict):
            raise SettingsError(f"{name}: {table}: expected tables such as [{table}.NAME]")
        named[table] = {key: _convert(value, type, name, f"{table}.{key}") for key, value in entries.items()}
    settings: Settings = msgspec.structs.replace(_convert(raw, Settings, name), **named)
    for complaint in (*_check_server(settings), *_check_providers(settings), *_check_targets(settings)):
        raise SettingsError(f"{name}: {complaint}")
    return settings


def _convert(raw: Any, type: Any, name: str, prefix: str = "") -> Any:
    try:
        return msgspec.convert(raw, type, dec_hook=_hook)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{name}: {_complaint(str(error), type, prefix)}") from None


def _hook(type: Any, value: Any) -> Any:
    return _size(value) if type is Size else _secret_ref(value)


def _size(value: Any) -> Size:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    size: float = 0
    if match and (unit := _UNITS.get(match[2].lower())):
        size = float(match[1]) * unit
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    if not 1 <= size <= MAX_SIZE:
        raise ValueError('expected a size such as "20 MiB" or a number of bytes, from 1 byte to 1 TiB')
    return Size(size)


def _secret_ref(value: Any) -> SecretRef:
    match = _SECRET.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected `env:NAME` or `file:PATH`: a secret itself does not stand in this file")
    return SecretRef(match[1], match[2])


_UNKNOWN = re.compile(r"Object contains unknown field `(.+?)`")
_TYPES = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"} | {
    "array": "a list",
    "object": "a table",
}


def _complaint(text: str, root: Any, prefix: str) -> str:
    """msgspec's words ("Expected `int`, got `str` - at `$.server.port`") as a line for people."""
    reason, _, place = text.partition(" - at `$")
    path = place.rstrip("`").lstrip(".")
    path = ".".join(part for part in (prefix, path) if part)
    if (unknown := _UNKNOWN.search(reason)) is not None:
        allowed = _fields_at(root, place.rstrip("`"))
        key = ".".join(part for part in (path, unknown[1]) if part)
        return f"{key}: unknown key{_did_you_mean(unknown[1], allowed)}; allowed: {', '.join(allowed)}"
    words = re.sub(r"`([^`]*)`", _plain_types, reason)
    return f"{path or 'the file'}: {words[:1].lower()}{words[1:]}"


def _plain_types(match: re.Match[str]) -> str:
    """A type in msgspec's words (`float | null`) in plain ones; null goes without saying."""
    names = [_TYPES.get(name, name) for name in match[1].split(" | ") if name != "null"]
    return " or ".join(names) or "nothing"


def _did_you_mean(word: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(allowed), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _fields_at(root: Any, place: str) -> list[str]:
    """The fields of the Struct at a msgspec path such as `.providers[...].timeouts`."""
    for step in re.findall(r"\.([^.\[]+)|(\[[^\]]*\])", place):
        name = step[0]
        if name and (field := next((f for f in msgspec.structs.fields(root) if f.name == name), None)):
            root = field.type
        root = _struct_in(root)
    return [f.name for f in msgspec.structs.fields(root)]


def _struct_in(type: Any) -> Any:
    """`type`, or the Struct that a container or a union holds."""
    if get_origin(type) is None:
        return type
    return next((s for arg in get_args(type) if isinstance(s := _struct_in(arg), msgspec.StructMeta)), type)


# ── what types alone cannot say ────────────────────────────────────────────────────────────────────────

_LEVELS = ("debug", "info", "warning", "error")


def _check_server(settings: Settings) -> Iterator[str]:
    if settings.log.level not in _LEVELS:
        yield f"log.level: expected one of {', '.join(_LEVELS)}"


def _check_providers(settings: Settings) -> Iterator[str]:
    for name, entry in settings.providers.items():
        where = f"providers.{name}"
        type = entry.type or canonical(name)
        if _NAME.fullmatch(name) is None:
            yield f"{where}: a provider's name has letters, digits, '-', '_' and '.' only"
        elif canonical(name) != name and canonical(name) in settings.providers:
            yield f"{where}: is another name of {canonical(name)}, which has a table of its own"
        elif type not in PROVIDERS:
            yield f"{where}.type: expected one of {', '.join(PROVIDERS)}, not {type!r}"
        else:
            yield from (f"{where}.{complaint}" for complaint in _check_provider(entry, PROVIDERS[type]))


def _check_provider(entry: ProviderSettings, provider: Provider) -> Iterator[str]:
    if entry.base_url is not None and (wrong := wrong_address(entry.base_url)) is not None:
        yield f"base_url: {wrong}"
    if entry.tls_min not in tls.VERSIONS:
        yield f"tls_min: expected one of {', '.join(tls.VERSIONS)}"
    elif (reason := _no_authorities(entry)) is not None:
        yield f"ca_file: {entry.ca_file}: {reason}"
    if entry.compatible and provider.compatible is None:
        yield f"compatible: nobody else's servers are known to speak {provider.name}'s API"
    elif entry.compatible and entry.base_url is None:
        yield "base_url: a compatible server needs its address"
    try:
        _convert(entry.options, provider.options, "", "options")
    except SettingsError as error:
        yield str(error).removeprefix(": ")


_ESCAPED = "write @ / ? # in a name or a password as %40 %2F %3F %23"


def wrong_address(url: str) -> str | None:
    """Why `url` cannot be a base URL, in words that show nothing of it; None when it can.

    What could be read in two ways is refused: the wrong one would show a part of the password, or call
    another host.
    """
    if not url.startswith(("http://", "https://")):
        return "expected an address that begins with http:// or https://"
    if "?" in url or "#" in url:
        return f"an address has no query and no fragment here, paths are put after it; {_ESCAPED}"
    if "\\" in url or any(c.isspace() or not c.isprintable() for c in url):
        return "an address has no white space and no backslashes"
    try:
        parts = urlsplit(url)
        user, _, _ = parts.netloc.rpartition("@")
        clean = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # it would quote what it cannot read, which may be a part of the password
        return f"cannot be read as an address; {_ESCAPED}"
    if not clean or "@" in user or "@" in parts.path:
        return f"cannot be read as an address; {_ESCAPED}"
    return None


def _no_authorities(entry: ProviderSettings) -> str | None:
    """Why `ca_file` cannot be used; None when it can, or is not set."""
    if entry.ca_file is None:
        return None
    try:
        tls.context(entry.ca_file, entry.tls_min)
    except ssl.SSLError:
        return "has no certificates in PEM form"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def _check_targets(settings: Settings) -> Iterator[str]:
    for name in settings.routes:
        if MODEL_NAME.fullmatch(name) is None:
            yield f"routes.{name}: no client could ask for a model of that name: use letters, digits, ._:/@+-"
    known = {*PROVIDERS, *settings.providers}
    lists = [(f"routes.{name}.targets", route.targets) for name, route in settings.routes.items()]
    lists += [(f"models.{name}.failover", model.failover) for name, model in settings.models.items()]
    lists += [(f"models.{name}", [name]) for name in settings.models]
    for where, targets in lists:
        for target in targets:
            provider, slash, model = target.partition("/")
            if not slash or not model:
                yield f"{where}: expected provider/model, not {target!r}"
            elif canonical(provider) not in known:
                hint = _did_you_mean(provider, known)
                yield f"{where}: there is no provider {provider!r}{hint}; known: {', '.join(sorted(known))}"


_NAME = re.compile(r"[A-Za-z0-9._-]+")
_ALIASES = {alias: name for name, provider in PROVIDERS.items() for alias in provider.aliases}


def canonical(name: str) -> str:
    """A provider's own name for one of its aliases; any other name as it is."""
    return _ALIASES.get(name, name)


# ── with the environment ───────────────────────────────────────────────────────────────────────────────


def plan_providers(settings: Settings, environ: Mapping[str, str]) -> list[ProviderPlan]:
    """Every provider, built in or in the file, in the order in which `auto` would use them."""
    entries = {name: ProviderSettings() for name in PROVIDERS}
    for name, entry in settings.providers.items():
        entries[canonical(name)] = entry
    plans = [_plan(name, entry, settings, environ) for name, entry in entries.items()]
    return sorted(plans, key=lambda plan: plan.settings.priority)


def _plan(name: str, entry: ProviderSettings, settings: Settings, environ: Mapping[str, str]) -> ProviderPlan:
    provider = PROVIDERS[entry.type or name]
    if provider.configure is not None:
        provider = provider.configure(msgspec.convert(entry.options, provider.options))
    foreign = entry.base_url is not None and (entry.type or name) != name
    if provider.compatible is not None and (entry.compatible or (entry.compatible is None and foreign)):
        provider = provider.compatible
    keys, off = _provider_keys(provider, entry, environ)
    return ProviderPlan(
        name=name,
        provider=provider,
        settings=entry,
        timeouts=entry.timeouts.over(_usual(provider, settings)),
        keys=keys,
        queue=settings.queue,
        off="switched off in the settings" if not entry.enabled else off,
    )


def _usual(provider: Provider, settings: Settings) -> Timeouts:
    """The limits of `provider` when its own table says nothing: its API's nature comes before the general."""
    return msgspec.structs.replace(settings.timeouts.over(Timeouts()), **provider.timeouts)


def _provider_keys(
    provider: Provider, entry: ProviderSettings, environ: Mapping[str, str]
) -> tuple[list[Secret], str | None]:
    """The keys, or why there are none where one is needed."""
    named = [*([entry.api_key] if entry.api_key is not None else []), *entry.api_keys]
    if not named:
        found = next((name for name in provider.key_names if environ.get(name, "").strip()), None)
        named = [SecretRef("env", found)] if found else []
    try:
        keys = {secret.reveal(): secret for secret in (resolve(ref, environ) for ref in named)}
    except SettingsError as error:
        return [], str(error)
    if not keys and provider.key_names:
        return [], f"{' or '.join(provider.key_names)} is not set"
    return list(keys.values()), None


def resolve(reference: SecretRef, environ: Mapping[str, str]) -> Secret:
    """The secret that `reference` names, without the white space around it.

    Raises `SettingsError`, which names the place and never the value.
    """
    if reference.kind == "env":
        value = environ.get(reference.place, "")
    else:
        try:
            value = Path(reference.place).read_text("utf-8")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise SettingsError(f"{reference.place} cannot be read: {reason}") from None
    value = value.strip()
    if not value:
        raise SettingsError(f"{reference.place} is {'not set' if reference.kind == 'env' else 'empty'}")
    if not all(33 <= ord(c) <= 126 for c in value):
        raise SettingsError(f"{reference.place} has characters that cannot be in a key")
    return Secret(value, reference.place)


GATEWAY_KEY = "GATEWAY_API_KEY"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def gateway_key(settings: Settings, environ: Mapping[str, str]) -> Secret | None:
    """The key that clients have to bring, None when they need none.

    Raises `SettingsError` when one is asked for and missing, or when other machines could call without.
    """
    server = settings.server
    key: Secret | None = None
    if server.api_key is not None:
        try:
            key = resolve(server.api_key, environ)
        except SettingsError as error:
            raise SettingsError(f"server.api_key: {error}") from None
    elif environ.get(GATEWAY_KEY, "").strip():
        key = resolve(SecretRef("env", GATEWAY_KEY), environ)
    if key is None and server.host not in LOOPBACK:
        raise SettingsError(
            f"listening on {server.host} would let other machines use your keys: "
            f"set {GATEWAY_KEY} to a secret that clients bring, or listen on 127.0.0.1"
        )
    return key
