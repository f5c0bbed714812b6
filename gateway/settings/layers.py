"""Finds and merges the layers of the configuration, option by option, and records the source of each value."""

import difflib
import functools
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from gateway.settings.models import STORES, Section, Settings
from gateway.settings.option_types import FILE, IN_DATABASE, REFERENCE, Expected, expand_home, is_short

PREFIX = "MILLRACE_"
PROFILE, CONFIG = "MILLRACE_PROFILE", "MILLRACE_CONFIG"  # these select files and are not options
_MAX_FILE_BYTES = 1_000_000
_PACKAGE = Path(__file__).resolve().parent.parent
# Variables of the old system that set an option. The option's own variable overrides them.
ALIASES = {
    "ECS_ROLE": "kvs.role",
    "KVS_STREAM_ARN": "kvs.stream",
    "COUNT_FREQUENCY": "kvs.log_every",
    "ECS_CLUSTER_NAME": "ecs.cluster",
    "ECS_TASK_NAME": "ecs.task",
    "ECS_CONTAINER_NAME": "ecs.container",
    "SECURITY_GROUP": "ecs.security_groups",
}
# Secrets that may be references.
REFERENCE_OPTIONS: Final = (
    *("signing.secret", "signing.previous_secret", "admin.token", "cluster.secret", "cloudfront.private_key"),
)
DEFAULTS: Final = "default.toml"
FLEET: Final = "fleet.toml"  # in the data folder
_ACME_PORTS: Final = {"http.port": 80, "https.port": 443}
_MASK: Final = "***"
_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*)(.*)", re.S)
_HOST: Final = re.compile(r"(?:[^:\s]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
# A password may contain any character, also a slash that ends the address for a parser. So the last "@" counts.
_USER: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/{1,2})?[^\s,]*@")
_QUERY: Final = re.compile(r"(://[^\s,?]*\?)[^\s,]+")
# Kubernetes describes each Service of a namespace in variables. Those of a Service `millrace` begin like options.
_OF_KUBERNETES: Final = re.compile(
    r"MILLRACE_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)=|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?=|PORT=(tcp|udp|sctp)://)"
)


class SettingsError(Exception):
    """The configuration cannot be used.

    problems: one printable line for each problem, never with the value of a secret.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(_printable(line) for line in problems)
        super().__init__("; ".join(self.problems))


def nearest(name: str, known: Iterable[str], cutoff: float = 0.0) -> str:
    """Returns "; did you mean …?" with the most similar name of `known`; "" if none is similar enough.

    cutoff: the least similarity, 0 to 1.
    """
    by_plain = {_plain(k): k for k in known}
    close = difflib.get_close_matches(_plain(name), by_plain, n=1, cutoff=cutoff)
    return f"; did you mean {by_plain[close[0]]}?" if close else ""


def _plain(name: str) -> str:
    """Returns the name without differences of case and separators, which are the most frequent mistakes."""
    return name.lower().replace("__", "_").replace(".", "_").replace("-", "_")


def _printable(line: str) -> str:
    """Escapes line breaks and terminal control characters of values, so that a problem is one line."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _fields() -> dict[str, FieldInfo]:
    """Returns every option by its name, such as "data" or "rtmp.port"."""
    found: dict[str, FieldInfo] = {}
    for name, info in Settings.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            found |= {f"{name}.{option}": inner for option, inner in info.annotation.model_fields.items()}
        else:
            found[name] = info
    return found


OPTIONS: dict[str, FieldInfo] = _fields()
SECTIONS: frozenset[str] = frozenset(name.split(".")[0] for name in OPTIONS if "." in name)


def is_secret(name: str) -> bool:
    """Returns whether the option's value must be masked."""
    return OPTIONS[name].annotation is SecretStr


def variable(name: str) -> str:
    """Returns the environment variable of an option: rtmp.port → MILLRACE_RTMP__PORT."""
    return PREFIX + name.upper().replace(".", "__")


@dataclass(frozen=True, slots=True)
class SourcedValue:
    """A value as it was written, and its source."""

    value: Any
    source: str


@dataclass(slots=True)
class MergedOptions:
    """The merged layers. values: every option that a layer sets, with the value of the last of these layers."""

    values: dict[str, SourcedValue] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def put(self, name: str, value: object, source: str) -> None:
        self.values[name] = SourcedValue(value, source)

    def value(self, name: str) -> Any:
        """Returns the value of an option. In a store's address, `{data}` is replaced by the data folder."""
        value = self.values[name].value
        if name in STORES and isinstance(value, str) and isinstance(data := self.values["data"].value, str):
            with suppress(ValueError):  # the check of the option `data` reports this problem
                return value.replace("{data}", str(expand_home(data)))
        return value

    def settings(self) -> Settings:
        """Returns the checked models. Raises SettingsError with one line for each problem."""
        missing = [f"{name} is missing: no layer sets it" for name in OPTIONS if name not in self.values]
        if problems := self.problems + missing:
            raise SettingsError(problems)
        tree: dict[str, Any] = {}
        for name in self.values:
            section, dot, option = name.partition(".")
            if dot:
                tree.setdefault(section, {})[option] = self.value(name)
            else:
                tree[section] = self.value(name)
        try:
            settings = Settings.model_validate(tree)
        except ValidationError as refused:
            lines = [self._describe(tuple(error["loc"])) for error in refused.errors(include_url=False)]
            raise SettingsError(dict.fromkeys(lines)) from None
        if contradictions := list(_contradictions(settings)):
            raise SettingsError(contradictions)
        return settings

    def displayed(self, name: str) -> str:
        """Returns the value of an option for display. A secret is masked."""
        value = without_secrets(name, self.value(name))
        if is_secret(name):
            return "********" if value not in ("", None) else '""'
        if isinstance(value, bool):
            return "true" if value else "false"
        return f'"{value}"' if isinstance(value, str) else str(value)

    def _describe(self, loc: tuple[int | str, ...]) -> str:
        name = ".".join(str(part) for part in loc[:2])
        if name not in OPTIONS:
            name = str(loc[0])
        expected = next((m.text for m in OPTIONS[name].metadata if isinstance(m, Expected)), "another value")
        return f"{name} is {self.displayed(name)} ({self.values[name].source}), expected {expected}"


def shown(settings: Settings, name: str) -> str:
    """Returns the value of an option for display, in a syntax like that of TOML. Secrets are masked."""
    section, dot, option = name.partition(".")
    value = getattr(getattr(settings, section), option) if dot else getattr(settings, section)
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else '""'
    return _toml(without_secrets(name, value))


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:.15g}"
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(v) for v in value)}]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{k} = {_toml(v)}" for k, v in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return f'"{"" if value is None else value}"'


def _contradictions(settings: Settings) -> Iterator[str]:
    """Yields a line for each combination of options that is not allowed."""
    if (settings.tls.cert is None) != (settings.tls.key is None):
        yield "tls.cert and tls.key belong together: set both or neither"
    if settings.tls.acme and settings.tls.cert is not None:
        yield "tls.acme and tls.cert contradict each other: set one of them"
    if settings.admin.tls and not settings.has_tls:
        yield "admin.tls is true, so tls.acme, or tls.cert and tls.key, have to be set"
    if bool(settings.s3.access_key) != bool(settings.s3.secret_key.get_secret_value()):
        yield "s3.access_key and s3.secret_key belong together: set both or neither"
    if IN_DATABASE in settings.store_urls() and not settings.database.get_secret_value():
        yield f"a store is {IN_DATABASE}, so database has to be set"
    if settings.serve.workers > 1 and not sys.platform.startswith("linux"):
        yield f"serve.workers is {settings.serve.workers}, but only Linux spreads connections over several processes"
    if settings.workers.runner == "ecs":
        for name in ("task", "container"):
            if not getattr(settings.ecs, name):
                yield f"workers.runner is ecs, so ecs.{name} has to be set"
        if not settings.registry:
            yield "workers.runner is ecs, so registry has to be set: tasks are nodes"
        if not settings.cluster.secret.get_secret_value():
            yield "workers.runner is ecs, so cluster.secret has to be set: tasks are nodes"
    if settings.ecs.events and not settings.ecs.addresses:
        yield "ecs.events is set, so ecs.addresses has to name the table"
    if settings.kvs.queue and not settings.kvs.stream:
        yield "kvs.queue is set, so kvs.stream has to name the stream for its objects"
    if bool(settings.cloudfront.key_pair_id) != bool(settings.cloudfront.private_key.get_secret_value()):
        yield "cloudfront.key_pair_id and cloudfront.private_key belong together: set both or neither"
    verifies = settings.cloudfront.public_keys or settings.cloudfront.origin_secret.get_secret_value()
    if settings.playback.auth == "cloudfront" and not verifies:
        yield "playback.auth is cloudfront, so cloudfront.public_keys or cloudfront.origin_secret has to be set"


def missing_files(settings: Settings) -> list[str]:
    """Returns one line for each file in the options that cannot be read."""
    paths = {"tls.cert": settings.tls.cert, "tls.key": settings.tls.key, "tls.ca": settings.tls.ca}
    paths["transcode.ladders"] = settings.transcode.ladders
    for name in REFERENCE_OPTIONS:
        text = attrgetter(name)(settings).get_secret_value()
        if text.startswith(FILE) and REFERENCE.fullmatch(text):
            paths[name] = Path(text.removeprefix(FILE))
    paths |= {f"cloudfront.public_keys {name}": path for name, path in settings.cloudfront.public_keys.items()}
    lines = []
    for name, path in paths.items():
        if path is None:
            continue
        try:
            if not path.is_fifo():  # it can be read only once
                path.open("rb").close()
        except OSError as e:
            lines.append(f"{name} names {path}, which cannot be read: {e.strerror}")
    return lines


def short_secrets(settings: Settings) -> list[str]:
    """Returns the options with a short secret, for a warning.

    Only a secret that another system chooses may be short. For other options a short secret is an error.
    """
    secrets = {"hooks.secret": settings.hooks.secret, "cloudfront.origin_secret": settings.cloudfront.origin_secret}
    return [name for name, secret in secrets.items() if (text := secret.get_secret_value()) and is_short(text)]


def config_folder(package: Path = _PACKAGE) -> Path:
    """Returns the folder with default.toml: `config` of a checkout, else `_config` of an installed wheel.

    Raises SettingsError if there is neither.
    """
    checkout = package.parent / "config"
    # Without pyproject.toml it may be a site-packages folder with a "config" package of another project.
    if (package.parent / "pyproject.toml").is_file() and (checkout / "default.toml").is_file():
        return checkout
    installed = Path(str(files("gateway"))) / "_config" if package == _PACKAGE else package / "_config"
    if (installed / "default.toml").is_file():
        return installed
    raise SettingsError([f"this installation is incomplete: no default.toml in {checkout} or {installed}"])


def load(**sources: Any) -> Settings:
    """Returns the settings. sources: the arguments of `merge`. Raises SettingsError if they cannot be used."""
    return merge(**sources).settings()


def merge(
    *,
    config: Path | None = None,
    profile: str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
) -> MergedOptions:
    """Merges the layers.

    config, profile: from the command line; they override MILLRACE_CONFIG and MILLRACE_PROFILE.
    environ: default os.environ; then the file of `millrace join` is a layer too.
    overrides: `section.option=value`, from the command line.
    folder: of the TOML files, default this installation's.
    Raises SettingsError for a file that cannot be read. `MergedOptions.settings` raises all other problems together.
    """
    of_process, environ = environ is None, os.environ if environ is None else environ
    folder = config_folder() if folder is None else folder
    merged = MergedOptions()
    _put_file(merged, folder / DEFAULTS, DEFAULTS)
    if profile := profile or environ.get(PROFILE, ""):
        _put_file(merged, _profile_file(folder, profile), f"profile {profile}")
    if config := config or (Path(environ[CONFIG]) if environ.get(CONFIG) else None):
        _put_file(merged, config, str(config))
    _put_environment(merged, environ)
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals:
            # Only the name is printed: after a wrong separator, the rest may be a secret.
            named = next((f" {option}" for option in OPTIONS if re.match(rf"\s*{re.escape(option)}\b", override)), "")
            merged.problems.append(f"--set{named}: expected section.option=value")
        elif (name := name.strip()) not in OPTIONS:
            merged.problems.append(f"--set {name}: no such option{nearest(name, OPTIONS)}")
        else:
            merged.put(name, value, "command line")
    if of_process:
        _put_fleet(merged)
    _put_acme_ports(merged)
    _put_database(merged)
    return merged


def _put_fleet(merged: MergedOptions) -> None:
    """Adds the settings that `millrace join` stored in the data folder. Files and the environment override them."""
    data = merged.values["data"].value
    try:
        file = Path(expand_home(data), FLEET) if isinstance(data, str) else None
    except ValueError:  # the check of the option `data` reports this problem
        return
    if file is None or not os.path.exists(file):
        return
    own = {name: value for name, value in merged.values.items() if value.source != DEFAULTS}
    _put_file(merged, file, str(file))
    merged.values |= own


def _put_database(merged: MergedOptions) -> None:
    """Moves the stores without a setting of their own to the option `database`."""
    database = merged.values.get("database")
    for name in STORES if database is not None and database.value else ():
        present = merged.values.get(name)
        if name != "objects" and present is not None and present.source == DEFAULTS:
            merged.put(name, IN_DATABASE, "database")


def _put_acme_ports(merged: MergedOptions) -> None:
    """Sets the ports that an authority checks (RFC 8555 §8.3, RFC 8737 §3), unless they have been set."""
    acme = merged.values.get("tls.acme")
    for name, port in _ACME_PORTS.items() if acme is not None and acme.value else ():
        present = merged.values.get(name)
        if present is not None and present.source == DEFAULTS:
            merged.put(name, port, "tls.acme")


def _profile_file(folder: Path, profile: str) -> Path:
    known = sorted(file.stem for file in folder.glob("*.toml") if file.stem not in ("default", "ladders"))
    if profile not in known:
        raise SettingsError(
            [f"no profile {profile!r}; there {'is' if len(known) == 1 else 'are'} {', '.join(known) or 'none'}"]
        )
    return folder / f"{profile}.toml"


def read_toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as f:
            text = f.read(_MAX_FILE_BYTES + 1)
        if len(text) > _MAX_FILE_BYTES:
            raise SettingsError([f"{file} is too large for a configuration"])
        return (_defaults if file.name == DEFAULTS else tomllib.loads)(text.decode("utf-8-sig"))
    except OSError as e:
        raise SettingsError([f"{file} cannot be read: {e.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{file} is not UTF-8 text"]) from None
    except (ValueError, RecursionError) as e:  # ValueError: also a number of thousands of digits
        raise SettingsError([f"{file} is not TOML: {e}"]) from None


@functools.lru_cache(maxsize=1)  # they are read each time; other files may contain secrets
def _defaults(text: str) -> dict[str, Any]:
    return tomllib.loads(text)


def _put_file(merged: MergedOptions, file: Path, source: str) -> None:
    for key, value in read_toml(file).items():
        if key in SECTIONS:
            if not isinstance(value, dict):
                merged.problems.append(f"{source}: {key} is a section, write [{key}] and its options below")
                continue
            for option, inner in value.items():
                _put_key(merged, f"{key}.{option}", inner, source)
        else:
            _put_key(merged, key, value, source)


def _put_key(merged: MergedOptions, name: str, value: object, source: str) -> None:
    if name in OPTIONS:
        merged.put(name, value, source)
    else:
        merged.problems.append(f"{source}: no such option {name}{nearest(name, [*OPTIONS, *SECTIONS])}")


def _put_environment(merged: MergedOptions, environ: Mapping[str, str]) -> None:
    """Adds the environment. An option's own variable overrides aliases and secret files, which are added first.

    Line ends after a value are removed: `echo secret | base64` puts one into a secret of Kubernetes.
    """
    for alias, option in ALIASES.items():
        if environ.get(alias):
            merged.put(option, environ[alias].rstrip("\r\n"), alias)
    options = {variable(name): name for name in OPTIONS}
    secret_files = {f"{variable(name)}_FILE": name for name in OPTIONS if is_secret(name)}
    variables = sorted(name for name in environ if name.startswith(PREFIX) and name not in (PROFILE, CONFIG))
    for name in variables:
        if name in secret_files and environ[name]:
            try:
                text = Path(environ[name]).read_text("utf-8-sig")
            except (OSError, UnicodeDecodeError) as e:
                # The value is not printed: it may be the secret itself.
                merged.problems.append(f"{name} names a file that cannot be read: {getattr(e, 'strerror', 'not text')}")
                continue
            if not text.strip():  # a command such as openssl failed; the secret must not become another one
                merged.problems.append(f"{name} names an empty file")
                continue
            merged.put(secret_files[name], text.rstrip("\r\n"), f"file {environ[name]}")
    for name in variables:
        if name in options:
            merged.put(options[name], environ[name].rstrip("\r\n"), name)
        elif name not in secret_files and not _OF_KUBERNETES.match(f"{name}={environ[name]}"):
            merged.problems.append(
                f"unknown variable {name}{nearest(name, [*options, *secret_files, PROFILE, CONFIG])}"
            )


def without_secrets(name: str, value: Any) -> Any:
    """Returns the value of the option `name` with its secrets masked. The value may be invalid."""
    if isinstance(value, list | tuple):
        return type(value)(without_secrets(name, entry) for entry in value)
    if isinstance(value, Mapping):
        return {key: without_secrets(name, entry) for key, entry in value.items()}
    if not isinstance(value, str):
        return value
    if name in ("hooks.url", "auth.publish", "auth.play"):  # receivers put a token into the path
        return _origin(value)
    if name == "webrtc.ice_servers":  # turn:host:port <user> <password>
        server, space, _ = value.partition(" ")
        value = f"{server} {_MASK}" if space else server
    if ":" in value.partition("@")[0]:  # not the mail address of a user
        value = _USER.sub(rf"\1{_MASK}@", value)
    return _QUERY.sub(rf"\1{_MASK}", value)


def _origin(address: str) -> str:
    """Returns scheme and host of an address. Masks every part that may contain a secret."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return _MASK if address else ""
    scheme, authority, path = match.groups()
    user, at, host = authority.rpartition("@")
    if "@" in path or (host and not _HOST.fullmatch(host)):
        return f"{scheme}{_MASK}"
    return f"{scheme}{_MASK if user else ''}{at}{host}{f'/{_MASK}' if path not in ('', '/') else path}"
