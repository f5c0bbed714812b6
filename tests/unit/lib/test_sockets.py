"""Listening sockets: each problem gives a one-line error."""

import socket

import pytest

from gateway.lib.certificates import Certificate
from gateway.lib.sockets import MOVABLE_PORTS, UNSENT, ListenError, listen, listen_shared, port_of
from tests.support.no_ipv6 import remove_ipv6


@pytest.fixture
def opened():
    kept = []
    yield kept
    for one in kept:
        one.close()


def test_a_port_in_use_gives_a_one_line_error(opened):
    opened += listen("http", "127.0.0.1", 0)
    port = port_of(opened)
    with pytest.raises(ListenError) as error:
        listen("http", "127.0.0.1", port)
    assert str(error.value).startswith(f"http: 127.0.0.1:{port} is in use by ")


def test_a_default_port_of_srt_in_use_is_replaced_by_a_free_one(opened, monkeypatch):
    opened += listen("other", "127.77.0.1", 0, "udp")
    monkeypatch.setitem(MOVABLE_PORTS, "srt", port_of(opened))
    moved = listen("srt", "127.77.0.1", port_of(opened), "udp")
    shared = listen_shared("srt", "127.77.0.1", port_of(opened), 2, "udp")
    opened += [*moved, *(one for share in shared for one in share)]
    assert port_of(moved) != MOVABLE_PORTS["srt"] != port_of(shared[0])
    assert port_of(shared[0]) == port_of(shared[1])
    with pytest.raises(ListenError):
        listen("srt", "127.77.0.1", port_of(moved), "udp")


def test_a_udp_port_in_use_gives_a_one_line_error(opened):
    host = "127.77.0.1"  # other tests have connections from any port of 127.0.0.1
    opened += listen("srt", host, 0, "udp")
    port = port_of(opened)
    with pytest.raises(ListenError) as error:
        listen("srt", host, port, "udp")
    assert str(error.value).startswith(f"srt: UDP port {port} of {host} is in use by ")
    opened += listen("http", host, port)  # TCP has other ports


def test_an_address_of_another_machine_gives_a_one_line_error():
    with pytest.raises(ListenError, match=r"https: 192\.0\.2\.1:1 is not an address of this machine"):
        listen("https", "192.0.2.1", 1)


def test_an_unknown_host_name_gives_a_one_line_error():
    with pytest.raises(ListenError, match=r"rtmp: nowhere\.invalid:1935: "):
        listen("rtmp", "nowhere.invalid", 1935)


def test_a_name_with_several_addresses_has_one_port(opened):
    opened += listen("http", "localhost", 0)
    assert len({s.getsockname()[1] for s in opened}) == 1


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_localhost_is_the_loopback_that_exists(opened, monkeypatch, transport):
    remove_ipv6(monkeypatch)
    opened += listen("admin", "localhost", 0, transport)
    opened += (one for share in listen_shared("http", "localhost", 0, 2, transport) for one in share)
    assert [one.getsockname()[0] for one in opened] == ["127.0.0.1"] * 3


def test_the_loopback_of_ipv6_alone_is_an_error_where_it_is_absent(monkeypatch):
    remove_ipv6(monkeypatch)
    with pytest.raises(ListenError, match=r"admin: \[::1\]:0 is not an address of this machine"):
        listen("admin", "::1", 0)


def test_an_ipv6_wildcard_listener_accepts_ipv4(opened):
    opened += listen("http", "::", 0)
    with socket.create_connection(("127.0.0.1", port_of(opened)), 5) as client:
        assert client.getpeername()[1] == port_of(opened)


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system cannot bound unsent bytes")
def test_accepted_connections_inherit_the_socket_options(opened):
    opened += listen("http", "127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", port_of(opened)), 5):
        opened[0].setblocking(True)
        accepted, _ = opened[0].accept()
        opened.append(accepted)
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT


def test_a_missing_or_invalid_certificate_gives_a_one_line_error(tmp_path):
    missing = tmp_path / "cert.pem"
    with pytest.raises(ListenError, match=rf"tls\.cert: {missing}: No such file"):
        Certificate.read(missing, None)
    missing.write_text("no certificate")
    with pytest.raises(ListenError, match=rf"tls\.cert: {missing}: "):
        Certificate.read(missing, None)
    with pytest.raises(ListenError, match=r"tls\.key: "):
        Certificate.read(missing, tmp_path / "key.pem")
