"""The layers of the configuration, merged option by option, each value with where it came from."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from gateway.settings.folder import config_folder
from gateway.settings.kinds import Expected, home
from gateway.settings.models import Section, Settings
from gateway.settings.problems import SettingsError, nearest

PREFIX = "MILLRACE_"
PROFILE, CONFIG = "MILLRACE_PROFILE", "MILLRACE_CONFIG"  # they choose files and are no options themselves
_BIGGEST_FILE = 1_000_000
_STORES = ("channels", "objects", "registry", "vod.jobs", "admin.store")
# Variables of the original system that mean an option here; the option's own variable wins.
ALIASES = {
    "ECS_ROLE": "kvs.role",
    "KVS_STREAM_ARN": "kvs.stream",
    "COUNT_FREQUENCY": "kvs.log_every",
    "ECS_CLUSTER_NAME": "ecs.cluster",
    "ECS_TASK_NAME": "ecs.task",
    "ECS_CONTAINER_NAME": "ecs.container",
    "SECURITY_GROUP": "ecs.security_groups",
}


def _fields() -> dict[str, FieldInfo]:
    """Every option by its name: "data", "rtmp.port"."""
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
    """Whether the option's value must not be shown."""
    return OPTIONS[name].annotation is SecretStr


def variable(name: str) -> str:
    """The environment variable of an option: rtmp.port → MILLRACE_RTMP__PORT."""
    return PREFIX + name.upper().replace(".", "__")


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was written, and where."""

    value: Any
    source: str


@dataclass(slots=True)
class Merged:
    """The layers put together: `given` has every option that some layer names, the last layer's word for each."""

    given: dict[str, Given] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def put(self, name: str, value: object, source: str) -> None:
        self.given[name] = Given(value, source)

    def value(self, name: str) -> Any:
        """What was given for an option; in a store's address the data folder stands for `{data}`."""
        value = self.given[name].value
        if name in _STORES and isinstance(value, str) and isinstance(data := self.given["data"].value, str):
            with suppress(ValueError):  # the option `data` says what is wrong with it
                return value.replace("{data}", str(home(data)))
        return value

    def settings(self) -> Settings:
        """The checked models; SettingsError with one line for each fault."""
        problems = [
            *self.problems,
            *(f"{name} is missing: no layer sets it" for name in OPTIONS if name not in self.given),
        ]
        if problems:
            raise SettingsError(problems)
        tree: dict[str, Any] = {}
        for name in self.given:
            section, dot, option = name.partition(".")
            if dot:
                tree.setdefault(section, {})[option] = self.value(name)
            else:
                tree[section] = self.value(name)
        try:
            settings = Settings.model_validate(tree)
        except ValidationError as refused:
            raise SettingsError(
                dict.fromkeys(self._say(tuple(e["loc"])) for e in refused.errors(include_url=False))
            ) from None
        if contradictions := list(_contradictions(settings)):
            raise SettingsError(contradictions)
        return settings

    def shown(self, name: str) -> str:
        """The value of an option for people; a secret is masked."""
        value = self.value(name)
        if is_secret(name):
            return "********" if value not in ("", None) else '""'
        if isinstance(value, bool):
            return "true" if value else "false"
        return f'"{value}"' if isinstance(value, str) else str(value)

    def _say(self, loc: tuple[int | str, ...]) -> str:
        name = ".".join(str(part) for part in loc[:2])
        if name not in OPTIONS:
            name = str(loc[0])
        expected = next((m.words for m in OPTIONS[name].metadata if isinstance(m, Expected)), "another value")
        return f"{name} is {self.shown(name)} ({self.given[name].source}), expected {expected}"


def shown(settings: Settings, name: str) -> str:
    """The value that holds for an option, much as TOML writes it; a secret is masked."""
    section, dot, option = name.partition(".")
    value = getattr(getattr(settings, section), option) if dot else getattr(settings, section)
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else '""'
    return _toml(value)


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
    """What each option allows alone, but not together."""
    if (settings.tls.cert is None) != (settings.tls.key is None):
        yield "tls.cert and tls.key belong together: set both or neither"
    if settings.admin.tls and settings.tls.cert is None:
        yield "admin.tls is true, so tls.cert and tls.key have to be set"
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
        yield "ecs.events is set, so ecs.addresses has to name the table that is kept"
    verifies = settings.cloudfront.public_keys or settings.cloudfront.origin_secret.get_secret_value()
    if settings.playback.auth == "cloudfront" and not verifies:
        yield "playback.auth is cloudfront, so cloudfront.public_keys or cloudfront.origin_secret has to be set"


def missing_files(settings: Settings) -> list[str]:
    """One line for each file that an option names and that cannot be read."""
    named = {"tls.cert": settings.tls.cert, "tls.key": settings.tls.key, "tls.ca": settings.tls.ca}
    named |= {f"cloudfront.public_keys {name}": path for name, path in settings.cloudfront.public_keys.items()}
    lines = []
    for name, path in named.items():
        if path is None:
            continue
        try:
            with path.open("rb"):
                pass
        except OSError as e:
            lines.append(f"{name} names {path}, which cannot be read: {e.strerror}")
    return lines


def load(
    *,
    config: Path | None = None,
    profile: str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
) -> Settings:
    """The settings that hold; arguments as of `merge`. SettingsError where they cannot be used."""
    return merge(config=config, profile=profile, environ=environ, overrides=overrides, folder=folder).settings()


def merge(
    *,
    config: Path | None = None,
    profile: str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
) -> Merged:
    """Put the layers together.

    config, profile: as on the command line, before MILLRACE_CONFIG and MILLRACE_PROFILE. environ: default os.environ.
    overrides: `section.option=value`, from the command line. folder: of the TOML files, default this installation's.
    Raises SettingsError for a file that cannot be read; all other faults are collected for `Merged.settings`.
    """
    environ = os.environ if environ is None else environ
    folder = config_folder() if folder is None else folder
    merged = Merged()
    _put_file(merged, folder / "default.toml", "default.toml")
    if profile := profile or environ.get(PROFILE, ""):
        _put_file(merged, _profile_file(folder, profile), f"profile {profile}")
    if config := config or (Path(environ[CONFIG]) if environ.get(CONFIG) else None):
        _put_file(merged, config, str(config))
    _put_environment(merged, environ)
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals:
            merged.problems.append(f"--set {override}: expected section.option=value")
        elif (name := name.strip()) not in OPTIONS:
            merged.problems.append(f"--set {name}: no such option{nearest(name, OPTIONS)}")
        else:
            merged.put(name, value, "command line")
    return merged


def _profile_file(folder: Path, profile: str) -> Path:
    known = sorted(f.stem for f in folder.glob("*.toml") if _is_profile(f))
    if profile not in known:
        raise SettingsError(
            [f"no profile {profile!r}; there {'is' if len(known) == 1 else 'are'} {', '.join(known) or 'none'}"]
        )
    return folder / f"{profile}.toml"


def _is_profile(file: Path) -> bool:
    return file.stem not in ("default", "ladders")


def read_toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as f:
            text = f.read(_BIGGEST_FILE + 1)
        if len(text) > _BIGGEST_FILE:
            raise SettingsError([f"{file} is too large for a configuration"])
        return tomllib.loads(text.decode())
    except OSError as e:
        raise SettingsError([f"{file} cannot be read: {e.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{file} is not UTF-8 text"]) from None
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        raise SettingsError([f"{file} is not TOML: {e}"]) from None


def _put_file(merged: Merged, file: Path, source: str) -> None:
    for key, value in read_toml(file).items():
        if key in SECTIONS:
            if not isinstance(value, dict):
                merged.problems.append(f"{source}: {key} is a section, write [{key}] and its options below")
                continue
            for option, inner in value.items():
                _put_key(merged, f"{key}.{option}", inner, source)
        else:
            _put_key(merged, key, value, source)


def _put_key(merged: Merged, name: str, value: object, source: str) -> None:
    if name in OPTIONS:
        merged.put(name, value, source)
    else:
        merged.problems.append(f"{source}: no such option {name}{nearest(name, [*OPTIONS, *SECTIONS])}")


def _put_environment(merged: Merged, environ: Mapping[str, str]) -> None:
    """Aliases and secret files first, so that a variable beside them wins."""
    for alias, option in ALIASES.items():
        if environ.get(alias):
            merged.put(option, environ[alias], alias)
    options = {variable(name): name for name in OPTIONS}
    files = {f"{variable(name)}_FILE": name for name in OPTIONS if is_secret(name)}
    own = sorted(name for name in environ if name.startswith(PREFIX) and name not in (PROFILE, CONFIG))
    for name in own:
        if name in files and environ[name]:
            try:
                text = Path(environ[name]).read_text()
            except (OSError, UnicodeDecodeError) as e:
                merged.problems.append(
                    f"{name} names {environ[name]}, which cannot be read: {getattr(e, 'strerror', 'not text')}"
                )
                continue
            merged.put(files[name], re.sub(r"\r?\n\Z", "", text), f"file {environ[name]}")
    for name in own:
        if name in options:
            merged.put(options[name], environ[name], name)
        elif name not in files:
            merged.problems.append(f"unknown variable {name}{nearest(name, [*options, *files, PROFILE, CONFIG])}")
