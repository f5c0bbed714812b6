"""Opens an outgoing connection to one of the checked addresses of a server, which may be hostile."""

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from gateway.lib.egress import Address
from gateway.lib.scheduled_reads import LARGEST_READ, ReadScheduler, ScheduledProtocol

P = TypeVar("P", bound=asyncio.Protocol)

CLOSING_SECONDS: Final = 5.0  # time in which TLS must end


class ConnectFailed(Exception):
    """No address answered. The message is one line about the server, without addresses."""


async def connect(
    make: Callable[[], P],
    addresses: Sequence[Address],
    seconds: float,
    tls: ssl.SSLContext | None,
    reads: ReadScheduler,
) -> P:
    """Connects to the first address that answers, and returns its protocol.

    The connection is read in turns. While the write buffer is full, it is not read.
    seconds: limit for all addresses; each gets an equal share of the remaining time. tls: None: without TLS.
    Raises ConnectFailed.
    """
    loop = asyncio.get_running_loop()
    text = "the server has no address"
    end = loop.time() + seconds
    for remaining, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            async with asyncio.timeout((end - loop.time()) / remaining):
                _, outgoing = await loop.create_connection(
                    lambda: _Outgoing(make(), reads, LARGEST_READ),
                    address.host,
                    address.port,
                    family=address.family,
                    ssl=tls,
                    server_hostname=address.name.rstrip(".") if tls else None,
                    ssl_shutdown_timeout=CLOSING_SECONDS if tls else None,
                )
            return cast("P", outgoing.inner)
        except TimeoutError:
            text = "no answer to the connection"
        except ssl.SSLCertVerificationError as error:
            text = f"the server's certificate is not trusted: {error.verify_message}"
        except ssl.SSLError as error:
            text = f"no TLS: {error.reason or error}"
        except OSError as error:
            text = (
                os_error_text(error)
                if error.errno or tls is None
                else "the server closed the connection when TLS began"
            )
    raise ConnectFailed(text)


class _Outgoing(ScheduledProtocol):
    """Stops reading while the write buffer is full. A server that sends only requests would fill it with answers."""

    __slots__ = ()

    def pause_writing(self) -> None:
        self.hold_reading()
        super().pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.release_reading()


def os_error_text(error: OSError) -> str:
    """Returns the system's error text, without the addresses and numbers that event loops add."""
    cause = getattr(error, "os_error", error)  # of aiohttp's error
    if isinstance(cause, ssl.SSLError):  # its number is one of TLS, not of the system
        return f"TLS failed: {cause.reason or cause}"
    return (os.strerror(error.errno) if error.errno else str(error) or type(error).__name__).lower()
