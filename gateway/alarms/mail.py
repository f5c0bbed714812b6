"""Sends a message by mail."""

import asyncio
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from html import escape
from typing import Final, cast

import aiosmtplib

from gateway.alarms.fault import AlarmMessage, short
from gateway.channels.message_target import DeliveryFailed, Target
from gateway.lib.egress import SMTP, Egress

_START_TLS: Final = {"none": False, "tls": False, "starttls": True}  # else: if the server offers it


async def send(target: Target, message: AlarmMessage, egress: Egress, tls: ssl.SSLContext, seconds: float) -> str:
    """Sends a mail within `seconds` and returns the server's answer.

    The connection goes to an address that the egress policy has checked. Raises DeliveryFailed, EgressRefused, OSError,
    TimeoutError.
    """
    host, _, _port = target.host.rpartition(":")
    async with asyncio.timeout(seconds):
        sock = await _connect(target.host, egress, seconds)
        client = aiosmtplib.SMTP(
            hostname=host.strip("[]"),
            sock=sock,
            use_tls=target.tls == "tls",
            start_tls=_START_TLS.get(target.tls),
            username=target.user or None,
            password=target.password or None,
            tls_context=tls,
            timeout=None,  # the one above ends it, with its own words
        )
        try:
            await client.connect()
            refused, answer = await client.send_message(_mail(target, message))
            with suppress(aiosmtplib.SMTPException):  # the server has the mail already
                await client.execute_command(b"QUIT")
            for receiver, reason in refused.items():  # final, because the others have the mail
                text = f"the server took the mail, but not for {receiver}: {reason.code} {short(reason.message)}"
                raise DeliveryFailed(text, True)
            return short(answer)
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _refused(error.recipients[0]) from None
        except aiosmtplib.SMTPResponseException as error:
            raise _refused(error) from None
        except (aiosmtplib.SMTPException, ssl.SSLError) as error:
            raise DeliveryFailed(short(_reason(error)), False) from None
        finally:
            if client.transport is not None:
                cast(asyncio.WriteTransport, client.transport).abort()  # a server need not take part in the end
            client.close()


def _refused(error: aiosmtplib.SMTPResponseException) -> DeliveryFailed:
    """Returns the error for an answer of the server. RFC 5321 §4.2.1: 5yz answers are permanent."""
    subject = "the server refused user and password" if isinstance(error, aiosmtplib.SMTPAuthenticationError) else ""
    return DeliveryFailed(
        f"{subject or 'the server refused the mail'}: {error.code} {short(error.message)}", error.code >= 500
    )


def _reason(error: BaseException) -> str:
    """Returns the text of an error, of its cause if TLS failed."""
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {cause.verify_message}"
    return str(error) or type(error).__name__


async def _connect(where: str, egress: Egress, seconds: float) -> socket.socket:
    """Returns a connected socket to the first allowed address that answers. Raises EgressRefused, OSError.

    seconds: each address but the last one gets an equal share of it.
    """
    failure: OSError = OSError("no address answers")
    addresses = await egress.check(f"smtp://{where}", SMTP)
    for address in addresses:
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(None if address is addresses[-1] else seconds / len(addresses)):
                await asyncio.get_running_loop().sock_connect(sock, (address.host, address.port))
            return sock
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure


def _mail(target: Target, message: AlarmMessage) -> EmailMessage:
    """Returns the mail. Names of channels and rules have no line breaks here (`one_line`)."""
    mail = EmailMessage()
    mail["From"], mail["To"] = target.parts[0], ", ".join(target.parts[1:])
    mail["Subject"] = message.title if message.is_show else f"Millrace: {message.title}"
    mail["Date"] = format_datetime(datetime.fromtimestamp(message.time, UTC))
    mail["Message-ID"] = make_msgid(message.id, domain=target.parts[0].rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: absence notices do not answer
    rule = "" if message.is_show else f"\nRule: {message.rule}\n"
    mail.set_content(f"{message.text}\n\n{message.link}\n{rule}")
    if message.picture:
        mail.add_alternative(_html(message), subtype="html")
    return mail


def _html(message: AlarmMessage) -> str:
    """Returns the text of an announcement with its picture, whose address the receiver's program may load."""
    text, link, title = escape(message.text), escape(message.link), escape(message.title)
    picture = f'<p><a href="{link}"><img src="{escape(message.picture)}" alt="" width="480"></a></p>'
    return f'<h2>{title}</h2><p>{text.replace(chr(10), "<br>")}</p>{picture}<p><a href="{link}">{link}</a></p>\n'
