"""The address of a relay of Media over QUIC: `moq://host[:port]/path?query#broadcast`, or with `https://`."""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

# By scheme: how the library names it. `https` is WebTransport, the others are QUIC alone.
SCHEMES: Final = {"https": "https", "moq": "moqt", "moqt": "moqt"}


@dataclass(frozen=True, slots=True)
class MoqUrl:
    """The address of a relay. address: for the library. broadcast: the name there; empty: not given."""

    host: str
    address: str = field(repr=False)
    path: str = field(repr=False)
    broadcast: str


def is_moq(text: str) -> bool:
    """Whether a text is such an address, valid or not."""
    return text.partition("://")[0].lower() in SCHEMES


def parse_url(text: str) -> MoqUrl:
    """Returns the parts of an address. Raises ValueError with a text without secrets."""
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES or not parts.hostname or parts.port == 0 or parts.username is not None:
        raise ValueError("expected moq://host:port/path#broadcast or https://host/path#broadcast")
    address = parts._replace(scheme=SCHEMES[parts.scheme], fragment="").geturl()
    return MoqUrl(parts.hostname, address, parts.path.strip("/"), unquote(parts.fragment).strip("/"))
