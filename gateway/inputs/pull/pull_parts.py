"""The common parts of all pulls: time-outs, the texts of refusals, and TLS."""

import ssl
from typing import Final
from urllib.parse import urlsplit

from gateway.inputs.descriptor import InputContext, InputServices
from gateway.live.unit_intake import UnitIntake
from gateway.ports.errors import OutputError

CONNECT_SECONDS: Final = 10.0  # to connect, and for each answer of the server
SILENCE_SECONDS: Final = 10.0  # without media, until a pull fails
KEY_FRAME_SECONDS: Final = 10.0  # from the first media without a key frame until the input shows this
# From the first media to the first key frame, until a pull fails: cameras have up to 78 s between two at night.
LONGEST_WAIT_SECONDS: Final = 90.0
USER_AGENT: Final = "Millrace"
# The reasons of servers that refuse, by status.
REFUSALS: Final = {
    401: "the server wants a user name and a password, or they are wrong (401)",
    403: "the server refuses (403)",
    404: "there is no stream at this address (404)",
    508: "the address is an output of this channel (508)",
}


def tls_for(scheme: str, services: InputServices) -> ssl.SSLContext | None:
    """Returns the TLS context of a scheme that ends in "s", else None."""
    return (services.tls or ssl.create_default_context()) if scheme.endswith("s") else None


def check_usable(intake: UnitIntake, began: float, now: float) -> None:
    """Raises OutputError if nothing of what came can be used. began: monotonic seconds of the first bytes."""
    if not intake.units and now - began > KEY_FRAME_SECONDS:
        raise OutputError(intake.unusable.text() or f"no key frame for {KEY_FRAME_SECONDS:.0f} s")


def check_key_frame(context: InputContext, waited: float) -> None:
    """Shows that no key frame has come. Raises OutputError after the longest wait. waited: seconds with media."""
    text = f"no key frame for {waited:.0f} s"
    if waited > LONGEST_WAIT_SECONDS:
        raise OutputError(text)
    if waited > KEY_FRAME_SECONDS:
        context.report(text)


def peer_of(url: str) -> str:
    """Returns host and port of an address, without secrets."""
    return urlsplit(url).netloc.rpartition("@")[2][:255]
