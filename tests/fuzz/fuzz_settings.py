"""Configuration: any file, variables and overrides give settings or SettingsError, in single lines without secrets."""

from __future__ import annotations

import atexit
import os
import tempfile
from pathlib import Path

from gateway.settings import Settings, SettingsError, load
from gateway.settings.layers import CONFIG, OPTIONS, is_secret, shown, variable

_folder = tempfile.TemporaryDirectory(prefix="millrace-fuzz-")
atexit.register(_folder.cleanup)
_FILE = Path(_folder.name) / "own.toml"
_NAMES = sorted(OPTIONS)
_SECRET = "planted-" + "s" * 24
_SPLIT = b"\n---\n"

# A file, then variables ("@n" stands for the n-th option), then overrides.
SEEDS = [
    b'[rtmp]\nport = 1936\n[ws]\norigins = ["*"]\n[cloudfront.public_keys]\nK1 = "/a"\n---\n@3=1\n---\nrtmp.host=::',
    b'data = "{data}"\nchannels = "dynamodb://abc"\n---\nMILLRACE_RTMP__PROXY_FROM=10.0.0.0/8,::1\n@1=x\n---\n',
    b"rtmp = 5\nx.y.z = 1979-05-27T07:32:00Z\n[http]\nforwarded_from = [1, {a = 2}]\n---\nMILLRACE_X=1\n---\na\n=b\n",
    b"[stream]\nlinger = nan\ngop_bytes = 1e3\n[limits]\nhandshake = -inf\n---\nMILLRACE_DATA=~a/x\n---\nhooks.url=http://[",
    b'[signing]\nsecret = 5\nprevious_secret = ["a"]\n[admin]\ntoken = {a = "b"}\n---\n---\nplayback.public_url=https://a/?',
    '[log]\nlevel = "\\u202e\\n"\n---\nMILLRACE_HTTP__ADVERTISE=[::1]:1\n---\ntls.cert=é'.encode(),
]


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module; what was accepted can be shown, option by option."""
    file, _, rest = data.partition(_SPLIT)
    variables, _, overrides = rest.decode("utf-8", "surrogateescape").replace("\0", "").partition("\n---\n")
    _FILE.write_bytes(file)
    environ = {variable("admin.token"): _SECRET, variable("signing.secret"): _SECRET}
    for line in [v for v in variables.split("\n") if v][:20]:
        name, _, value = line.partition("=")
        if name.startswith("@") and name[1:].isascii() and name[1:].isdigit():
            name = variable(_NAMES[int(name[1:4]) % len(_NAMES)])
        if name != CONFIG and not name.endswith("_FILE"):  # they name files of this machine
            environ[name] = value
    try:
        settings = load(config=_FILE, environ=environ, overrides=[o for o in overrides.split("\n") if o][:20])
    except SettingsError as error:
        assert error.problems
        for line in error.problems:
            assert "\n" not in line and "\r" not in line, line
            assert _SECRET not in line
        return
    assert isinstance(settings, Settings)
    for name in OPTIONS:
        text = shown(settings, name)
        assert not is_secret(name) or text in ('""', "********")
    assert _SECRET not in repr(settings)
    assert os.fspath(settings.data)
