"""Finds secrets in texts and values, and replaces them with a mask."""

import re
from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "***"

# The values of these names are never shown: log fields, members of an object, parameters of a query.
NAMES: Final = (
    *("sign", "signature", "x-amz-signature", "x-amz-credential", "x-amz-security-token", "policy", "key-pair-id"),
    *("awsaccesskeyid", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
    *("token", "access_token", "id_token", "refresh_token", "admin_token", "client_secret", "code_verifier"),
    *("secret", "previous_secret", "origin_secret", "password", "passwd", "passphrase", "credentials"),
    *("authorization", "proxy-authorization", "cookie", "set-cookie", "millrace_session", "millrace_oidc"),
    *("code", "nonce", "csrf", "csrf_token", "csrftoken", "x-csrf-token", "x-millrace-node", "x-millrace-origin"),
    *("key", "streamkey", "stream_key", "obskey", "pushurl", "x-api-key", "api_key", "apikey", "private_key"),
)
_NAMES: Final = "|".join(sorted(map(re.escape, NAMES), key=len, reverse=True))
_NAME: Final = re.compile(rf"(?:{_NAMES})", re.I)
# A code of three or four digits is a status, not the code of a sign-in provider.
_NAMED: Final = rf"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{{2}}))({_NAMES})(?!(?<=code)=[0-9]{{3,4}}(?![A-Za-z0-9_-]))"
# Text up to the closing quote. In JSON inside JSON, backslashes precede the quotes.
_VALUE_QUOTED: Final = (
    r'"(?:\\.|[^"\\])*"?'  # "a, \"b\""
    r"|'(?:\\.|[^'\\])*'?"  # of Python
    r'|(?P<slashes>\\+)"(?:(?!(?<!\\)(?P=slashes)").)*(?:(?P=slashes)")?'  # \"a, b\"
)
# If a value is a structure, the whole rest is hidden: only a parser could find its end.
_MEMBER: Final = re.compile(
    _NAMED + r"(\\*[\"']\s{0,4}:\s{0,4})(?:" + _VALUE_QUOTED + r"|[\[{].*|[^\s,}\]&]*)", re.I | re.S
)
_PARAMETER: Final = re.compile(
    _NAMED + r"(\s{0,2}=\s{0,2}|%(?:25){0,3}3D)(?:" + _VALUE_QUOTED + r"|[^\s&\"<>]*)", re.I | re.S
)
# <expiry>-<MD5 or SHA-256>, found anywhere, also with more digits.
_STREAM_KEY: Final = re.compile(r"(?<![0-9])[0-9]+(?:-|%2D)[0-9a-f]{32,}", re.I)
# A name that only headers have is found anywhere. Other names are found at the start of a line, because
# "wrong key: …" is prose.
_HEADER: Final = re.compile(
    r"(?<![A-Za-z0-9-])((?:proxy-)?authorization|(?:set-)?cookie|x-[a-z0-9-]{0,40}(?:token|key|sign|signature|node|origin|credential))"
    r"(\s{0,4}:\s{0,4})[^\r\n]+",
    re.I,
)
_HEADER_LINE: Final = re.compile(rf"^([ \t]{{0,4}}(?:{_NAMES}))([ \t]{{0,4}}:[ \t]{{0,4}})[^\r\n]+", re.I | re.M)
_SCHEME: Final = re.compile(r"\b(bearer|basic|digest)(\s+)[^\s\"'<>,;]+", re.I)
_USERINFO: Final = re.compile(r"(?<=://)[^\s/@\"'<>]*@")
# rtmp://host/app/<key>: everything after the app is secret. If there is only one part, it is secret.
# srt://host:port?<query>: the query is secret.
_RTMP: Final = re.compile(r"((?:rtmp[a-z]{0,3}|srt)://[^\s/?\"'<>]*(?:/[^\s/?\"'<>]*)?)([/?][^\s\"'<>]*)", re.I)
_IVS: Final = re.compile(r"\bsk_[A-Za-z0-9_-]+")

_MAX_DEPTH = 6
_MAX_TEXT = 8000


def mask(text: str) -> str:
    """Returns `text`, cut at 8,000 characters, with every secret replaced by MASK."""
    if len(text) > _MAX_TEXT:
        # Cut between words, because half a secret would not be found.
        text = text[:_MAX_TEXT].rpartition(" ")[0] + "…"
    text = _HEADER.sub(rf"\1\2{MASK}", text)
    text = _HEADER_LINE.sub(rf"\1\2{MASK}", text)
    text = _SCHEME.sub(rf"\1\2{MASK}", text)
    text = _USERINFO.sub(f"{MASK}@", text)
    text = _RTMP.sub(lambda m: m[1] + ("/" if m[2][0] == "/" else "?") + (MASK if len(m[2]) > 1 else ""), text)
    text = _MEMBER.sub(_masked_value, text)
    text = _PARAMETER.sub(_masked_value, text)
    text = _STREAM_KEY.sub(MASK, text)
    return _IVS.sub(MASK, text)


def _masked_value(found: re.Match[str]) -> str:
    """Returns the name, its separator, and the mask in the quotes of the value."""
    value = found[0][len(found[1]) + len(found[2]) :]
    slashes = found["slashes"] or ""
    opening = slashes + '"' if slashes else value[:1] if value[:1] in ("'", '"') else ""
    closing = opening if opening and len(value) > len(opening) and value.endswith(opening) else ""
    return f"{found[1]}{found[2]}{opening}{MASK}{closing}"


def masked(name: str, value: Any, depth: int = 0) -> Any:
    """Returns a value for a log: MASK if `name` is a secret name, otherwise the value with masked texts inside."""
    if _NAME.fullmatch(name) and not _is_plain(name, value):
        return MASK
    if isinstance(value, bytes | bytearray):
        value = value.decode("latin-1")
    if isinstance(value, str):
        return mask(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {mask(_text(k)): masked(_text(k), v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        # Headers and forms are lists of pairs: the first text is the name of the second.
        if isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], str | bytes):
            return [masked("", value[0], depth + 1), masked(_text(value[0]), value[1], depth + 1)]
        return [masked("", v, depth + 1) for v in value]
    return mask(str(value))


def _is_plain(name: str, value: Any) -> bool:
    """Whether a value with a secret name is not secret: it is empty, a boolean, or a status code."""
    if value is None or isinstance(value, bool) or value == "":
        return True
    return name.lower() == "code" and isinstance(value, int)


def _text(name: Any) -> str:
    return name.decode("latin-1") if isinstance(name, bytes) else str(name)
