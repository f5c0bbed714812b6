"""HTTP to the services that the operator names: webhooks and the auth hook. Their addresses may be private."""

import ssl

import aiohttp


def open_session(
    timeout: float, connections: int, tls: ssl.SSLContext | None, user_agent: str
) -> aiohttp.ClientSession:
    """Returns a session without cookies. timeout: seconds for a whole request. tls: None: the system's authorities."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout),
        cookie_jar=aiohttp.DummyCookieJar(),
        connector=aiohttp.TCPConnector(limit=connections, ssl=tls or True),
        headers={"User-Agent": user_agent},
    )
