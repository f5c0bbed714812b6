"""The admin port before and after its first connection."""

import asyncio
import socket
import threading

import pytest

from gateway.app.admin_on_demand import AdminOnDemand
from tests.support.time_outs import at_most
from tests.support.waiting import until


class Server:
    """Answers each connection with `hello`."""

    def __init__(self):
        self.retired = self.closed = False

    async def listen(self, sockets, tls=None):
        [listening] = sockets
        self._server = await asyncio.start_server(self._greet, sock=listening)

    async def _greet(self, reader, writer):
        writer.write(b"hello")
        writer.close()

    def retire(self):
        self.retired = True

    async def close(self):
        self.closed = True
        self._server.close()


class Admin:
    """A port whose server is made at the first connection."""

    def __init__(self, load=lambda: None):
        self.made = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]
        self.server = AdminOnDemand(load, self._make)

    def _make(self):
        self.made.append(Server())
        return self.made[-1]

    async def greeting(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            return await asyncio.wait_for(reader.read(), at_most(10))
        finally:
            writer.close()


async def test_the_first_connection_makes_the_server_and_is_answered():
    admin = Admin()
    await admin.server.listen([admin.socket])
    assert not admin.made
    answers = await asyncio.gather(*(admin.greeting() for _ in range(5)))
    assert (answers, len(admin.made)) == ([b"hello"] * 5, 1)
    admin.server.retire()
    await admin.server.close()
    assert admin.made[0].retired and admin.made[0].closed


@pytest.mark.parametrize("retired", [False, True])
async def test_a_port_that_nobody_used_closes(retired):
    admin = Admin()
    await admin.server.listen([admin.socket])
    if retired:
        admin.server.retire()
    await admin.server.close()
    assert not admin.made
    with pytest.raises(ConnectionRefusedError):
        await admin.greeting()


async def test_a_port_whose_server_cannot_be_made_refuses_clients():
    def fail():
        raise ImportError("a library is missing")

    admin = Admin(fail)
    await admin.server.listen([admin.socket])
    with pytest.raises(ConnectionError):  # the client that waits is reset
        await admin.greeting()
    with pytest.raises(ConnectionRefusedError):
        await admin.greeting()
    await admin.server.close()


@pytest.mark.parametrize("retired", [False, True])
async def test_a_close_while_the_code_loads_makes_no_server(retired):
    loads, goes_on = threading.Event(), threading.Event()

    def load():
        loads.set()
        goes_on.wait(at_most(10))

    admin = Admin(load)
    await admin.server.listen([admin.socket])
    _, writer = await asyncio.open_connection("127.0.0.1", admin.port)
    await until(loads.is_set)
    if retired:
        admin.server.retire()
    else:
        await admin.server.close()
    goes_on.set()
    await admin.server.close()
    writer.close()
    assert not admin.made
