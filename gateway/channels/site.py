"""The site: title, logo, colour and text of the operator, which the home page and the watch pages show."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from gateway.channels.fields import COLOR, TextField
from gateway.ports.errors import InvalidField

KIND: Final = "site"  # of the entry in the store of the console; its key is KIND too
MAX_LOGO: Final = 200_000  # bytes; an item of DynamoDB has at most 400 kB, and the logo is base64 in it
_TEXTS: Final = {"title": TextField(100), "color": COLOR, "text": TextField(4_000)}


@dataclass(frozen=True, slots=True)
class Site:
    """The settings of an operator's pages; "" and b"" if not set. logo: WebP. color: `#rrggbb`. text: plain text."""

    title: str = ""
    color: str = ""
    text: str = ""
    logo: bytes = field(default=b"", repr=False)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Returns a stored site, or that of another node. An invalid value counts as not set."""
        texts = {}
        for name, kind in _TEXTS.items():
            try:
                texts[name] = kind.read(stored.get(name, ""))
            except ValueError:
                continue
        try:
            logo = base64.b64decode(str(stored.get("logo", "")), validate=True)
        except binascii.Error:
            logo = b""
        return cls(**texts, logo=logo if len(logo) <= MAX_LOGO else b"")

    def changed(self, body: Mapping[str, Any]) -> Self:
        """Returns the site after a PUT; a missing text keeps its value. Raises InvalidField."""
        texts: dict[str, Any] = {}
        for name, kind in _TEXTS.items():
            if name in body:
                try:
                    texts[name] = kind.read(body[name])
                except ValueError as error:
                    raise InvalidField(name, str(error)) from None
        return replace(self, **texts)

    def as_json(self) -> dict[str, str]:
        """Returns the form that `from_json` reads."""
        return {
            "title": self.title,
            "color": self.color,
            "text": self.text,
            "logo": base64.b64encode(self.logo).decode(),
        }

    @property
    def logo_tag(self) -> str:
        """A text that differs for every logo; "" without a logo."""
        return hashlib.sha256(self.logo).hexdigest()[:16] if self.logo else ""
