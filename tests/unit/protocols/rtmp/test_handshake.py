"""The handshake: simple, digest, mixed, and data of other protocols."""

from pathlib import Path

import pytest

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtmp.handshake import SIZE, ClientHandshake, ServerHandshake, _find_digest, _signed

CLIENT_NAME = b"Genuine Adobe Flash Player 001"
SERVER_NAME = b"Genuine Adobe Flash Media Server 001"
GOLDEN = Path(__file__).parents[3] / "golden" / "rtmp"


def pattern(size: int) -> bytes:
    return bytes(i % 251 for i in range(size))


def test_simple_handshake_echoes_c1() -> None:
    server = ServerHandshake(pattern)
    c1 = b"\0\0\0\x07" + bytes(4) + pattern(1528)
    assert server.receive(b"\x03" + c1) == b""
    out = server.data_to_send()
    assert out == b"\x03" + bytes(8) + pattern(1528) + c1
    assert not server.done
    assert server.receive(bytes(SIZE) + b"rest") == b"rest"
    assert server.done
    assert server.receive(b"more") == b"more"


def test_a_handshake_is_read_byte_by_byte() -> None:
    server = ServerHandshake()
    data = b"\x03" + bytes(SIZE) + bytes(SIZE) + b"rest"
    assert b"".join(server.receive(data[i : i + 1]) for i in range(len(data))) == b"rest"
    assert server.done


def test_a_handshake_is_read_in_one_piece() -> None:
    server = ServerHandshake()
    assert server.receive(b"\x03" + bytes(2 * SIZE) + b"rest") == b"rest"
    assert len(server.data_to_send()) == 1 + 2 * SIZE


@pytest.mark.parametrize("digest", [True, False])
def test_our_client_and_our_server_complete_the_handshake(digest: bool) -> None:
    client, server = ClientHandshake(digest=digest), ServerHandshake()
    assert server.receive(client.data_to_send()) == b""
    assert client.receive(server.data_to_send()) == b""
    assert server.receive(client.data_to_send()) == b""
    assert client.done and server.done
    assert client.digest is digest
    assert server.digest is digest


@pytest.mark.parametrize("schema", [0, 1])
def test_server_knows_both_digest_schemas_and_answers_in_kind(schema: int) -> None:
    server = ServerHandshake()
    server.receive(b"\x03" + _signed(bytes((9, 0, 124, 2)), pattern, schema, CLIENT_NAME))
    assert server.digest
    assert _find_digest(server.data_to_send()[1 : 1 + SIZE], SERVER_NAME) == schema


@pytest.mark.parametrize("capture", sorted(GOLDEN.glob("*ffmpeg*.bin")), ids=lambda capture: capture.stem)
def test_the_digest_of_ffmpeg_is_found(capture: Path) -> None:
    """Our client and server would agree on a wrong position, too."""
    server = ServerHandshake()
    server.receive(capture.read_bytes()[: 1 + SIZE])
    assert server.digest


def test_a_version_without_a_valid_digest_falls_back_to_simple() -> None:
    server = ServerHandshake()
    c1 = bytes(4) + bytes((9, 0, 124, 2)) + pattern(1528)
    server.receive(b"\x03" + c1)
    assert not server.digest
    assert server.data_to_send()[1 + SIZE :] == c1


def test_client_falls_back_to_echo_before_a_simple_server() -> None:
    client = ClientHandshake(digest=True)
    client.data_to_send()
    s1 = bytes(8) + pattern(1528)
    client.receive(b"\x03" + s1)
    assert client.data_to_send() == s1
    client.receive(bytes(SIZE))
    assert client.done
    assert not client.digest


@pytest.mark.parametrize("version", [0, 2, 4, 6, 8, 31])
def test_other_versions_are_answered_with_version_3(version: int) -> None:
    server = ServerHandshake()
    server.receive(bytes((version,)) + bytes(SIZE))
    assert server.data_to_send()[:1] == b"\x03"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x16\x03\x01", "TLS"),
        (b"\r\n\r\n\0\r\nQUIT\n", "PROXY"),
        (b"GET / HTTP/1.1", "HTTP"),
        (b"\x20", "version 32"),
        (b"\xff", "version 255"),
    ],
)
def test_other_protocols_are_refused_at_their_first_byte(data: bytes, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        ServerHandshake().receive(data)


def test_client_refuses_another_version() -> None:
    with pytest.raises(RemoteProtocolError, match="version 6"):
        ClientHandshake().receive(b"\x06")
