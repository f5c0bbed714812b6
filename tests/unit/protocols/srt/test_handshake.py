"""The handshake: what is agreed, what is refused, and what a stranger can cause."""

import pytest

from gateway.protocols.srt import listening
from gateway.protocols.srt.calling import Caller
from gateway.protocols.srt.crypto import encode_key_material
from gateway.protocols.srt.listening import Cookies, HandshakeRefused, accept, conclusion_of, refuse
from gateway.protocols.srt.packets import (
    HEAD_SIZE,
    HandshakeExtension,
    HandshakeType,
    Parameters,
    Reject,
    SrtFlag,
    SrtHandshake,
    control,
    decode_text,
    encode_text,
    handshake_of,
)
from tests.unit.protocols.srt.pair import ADDRESS, shake_hands


def _conclusion(**changed: object) -> bytes:
    """Returns a conclusion with changed fields. extensions: replace those of the same type."""
    extensions = {
        int(HandshakeExtension.PARAMETERS_REQUEST): Parameters(0x10503, int(listening.OUR_FLAGS), 120, 120).encode(),
        int(HandshakeExtension.STREAM_ID): encode_text("publish:a?sign=b"),
    }
    extensions |= changed.pop("extensions", {})  # type: ignore[arg-type]
    fields = {
        "version": 5,
        "encryption": 0,
        "extension": 5,
        "sequence": 77,
        "mtu": 1500,
        "window": 8192,
        "type": int(HandshakeType.CONCLUSION),
        "socket": 4711,
        "cookie": 1,
    } | changed
    handshake = SrtHandshake(**fields, extensions=list(extensions.items()))  # type: ignore[arg-type]
    return control(0, 0, 250_000, handshake.encode())


def test_both_sides_agree_on_the_greater_latency() -> None:
    data = _conclusion(
        extensions={
            int(HandshakeExtension.PARAMETERS_REQUEST): Parameters(0x10503, int(listening.OUR_FLAGS), 300, 80).encode()
        }
    )
    agreement, answer = accept(conclusion_of(data, 100.0), 0.12, "", 100.0)
    assert agreement.receive_latency == 0.12
    assert agreement.send_latency == 0.3
    assert agreement.base == pytest.approx(99.75)
    told = handshake_of(answer)
    assert told is not None
    assert Parameters.decode(told.find(HandshakeExtension.PARAMETERS) or b"").receiver_latency == 120
    assert told.sequence == 77


def test_caller_and_listener_have_the_ids_of_each_other() -> None:
    caller, connection, conclusion = shake_hands(stream_id="#!::r=live/a,m=publish")
    assert conclusion.stream_id == "#!::r=live/a,m=publish"
    assert caller.agreement is not None
    assert caller.agreement.peer_socket == connection.agreement.socket
    assert connection.agreement.peer_socket == caller.agreement.socket
    assert caller.agreement.own_first == connection.agreement.first


def test_a_wrong_passphrase_is_refused_with_its_code() -> None:
    with pytest.raises(HandshakeRefused) as refused:
        shake_hands(passphrase="one passphrase", listener_passphrase="other passphrase")
    assert refused.value.code == Reject.BAD_SECRET


@pytest.mark.parametrize(("caller", "listener"), [("a passphrase", ""), ("", "a passphrase")])
def test_encryption_of_one_side_only_is_refused(caller: str, listener: str) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        shake_hands(passphrase=caller, listener_passphrase=listener)
    assert refused.value.code == Reject.UNSECURE


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"version": 4}, Reject.VERSION),
        ({"extensions": {1: b""}}, Reject.ROGUE),
        (
            {"extensions": {1: Parameters(0x10503, int(listening.OUR_FLAGS | SrtFlag.STREAM), 0, 0).encode()}},
            Reject.MESSAGE_MODE,
        ),
        ({"extensions": {int(HandshakeExtension.CONGESTION): encode_text("file")}}, Reject.CONGESTION),
        ({"extensions": {int(HandshakeExtension.FILTER): encode_text("fec,cols:10")}}, Reject.FILTER),
        ({"extensions": {int(HandshakeExtension.GROUP): bytes(8)}}, Reject.GROUP),
        ({"extensions": {int(HandshakeExtension.STREAM_ID): bytes(516)}}, Reject.ROGUE),
        ({"extensions": {int(HandshakeExtension.STREAM_ID): b"\xff\xff\xff\xff"}}, Reject.ROGUE),
        ({"extensions": {int(HandshakeExtension.KEYS_REQUEST): bytes(40)}}, Reject.CRYPTO),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_code(changed: dict[str, object], code: Reject) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        accept(conclusion_of(_conclusion(**changed), 100.0), 0.12, "a passphrase", 100.0)
    assert refused.value.code == code


def test_a_caller_with_another_cipher_reads_the_right_one() -> None:
    material = bytearray(encode_key_material("a passphrase", bytes(16), {1: bytes(16)}))
    material[8:10] = 4, 1  # AES-GCM, as of `cryptomode=2` of libsrt 1.5.2
    data = _conclusion(extensions={int(HandshakeExtension.KEYS_REQUEST): bytes(material)})
    with pytest.raises(HandshakeRefused, match="encrypts SRT with AES-GCM: set AES-CTR") as refused:
        accept(conclusion_of(data, 100.0), 0.12, "a passphrase", 100.0)
    assert refused.value.code == Reject.CRYPTO


def test_a_refusal_reaches_the_caller() -> None:
    cookies, caller = Cookies(), Caller("x", 0.12, 100.0)
    answer = listening.answer_induction(caller.datagram, cookies.make(ADDRESS, 100.0))
    assert answer is not None
    caller.receive(answer, 100.0)
    conclusion = handshake_of(caller.datagram)
    assert conclusion is not None
    with pytest.raises(HandshakeRefused) as refused:
        caller.receive(refuse(conclusion, Reject.CONFLICT, 0), 100.1)
    assert refused.value.code == Reject.CONFLICT


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_listener_of_srt_1_3_0_answers_without_the_id_of_the_caller(is_refused: bool) -> None:
    """Some cameras have this version. The answer to the induction has the id; that to the conclusion has 0."""
    cookies, caller = Cookies(), Caller("x", 0.12, 100.0)
    answer = listening.answer_induction(caller.datagram, cookies.make(ADDRESS, 100.0))
    assert answer is not None
    caller.receive(answer, 100.0)
    if is_refused:
        told = handshake_of(caller.datagram)
        assert told is not None
        data = refuse(told, Reject.CONFLICT, 0)
        with pytest.raises(HandshakeRefused):
            caller.receive(data[:12] + bytes(4) + data[16:], 100.1)
    else:
        _, data = accept(conclusion_of(caller.datagram, 100.0), 0.12, "", 100.0)
        caller.receive(data[:12] + b"\0\0\0\1" + data[16:], 100.1)
        assert caller.agreement is None
        caller.receive(data[:12] + bytes(4) + data[16:], 100.1)
        assert caller.agreement is not None


def test_a_cookie_is_bound_to_address_and_time() -> None:
    cookies = Cookies()
    cookie = cookies.make(ADDRESS, 1_000.0)
    assert cookies.is_valid(cookie, ADDRESS, 1_059.0)
    assert not cookies.is_valid(cookie, (ADDRESS[0], 5001), 1_000.0)
    assert not cookies.is_valid(cookie, ADDRESS, 1_200.0)
    assert not Cookies().is_valid(cookie, ADDRESS, 1_000.0)


def test_the_answer_to_an_induction_is_not_longer() -> None:
    caller = Caller("x", 0.12, 100.0)
    answer = listening.answer_induction(caller.datagram, 1)
    assert answer is not None
    assert len(answer) <= len(caller.datagram)
    assert listening.answer_induction(_conclusion(), 1) is None
    assert listening.answer_induction(caller.datagram[: HEAD_SIZE + 40], 1) is None


def test_neither_side_grants_a_stranger_more_latency_than_its_bound() -> None:
    """A minute of a stream would wait in memory for a player that wants it."""
    minute = Parameters(0x10503, int(listening.OUR_FLAGS), 60_000, 60_000).encode()
    conclusion = conclusion_of(_conclusion(extensions={int(HandshakeExtension.PARAMETERS_REQUEST): minute}), 100.0)
    agreement, answer = accept(conclusion, 0.12, "", 100.0, 5.0)
    assert (agreement.receive_latency, agreement.send_latency) == (5.0, 5.0)
    told = handshake_of(answer)
    assert told is not None
    assert Parameters.decode(told.find(HandshakeExtension.PARAMETERS) or b"").receiver_latency == 5_000
    assert accept(conclusion, 8.0, "", 100.0, 5.0)[0].send_latency == 8.0, "our own wish has no bound"
    for own, granted in ((0.12, 5.0), (8.0, 8.0)):
        caller, cookies = Caller("x", own, 100.0, longest=5.0), Cookies()
        induction = listening.answer_induction(caller.datagram, cookies.make(ADDRESS, 100.0))
        assert induction is not None
        caller.receive(induction, 100.0)
        _, answer = accept(conclusion_of(caller.datagram, 100.0), 60.0, "", 100.0)
        caller.receive(answer, 100.0)
        assert caller.agreement is not None
        assert (caller.agreement.receive_latency, caller.agreement.send_latency) == (granted, granted)


@pytest.mark.parametrize("text", ["", "a", "abcd", "publish:x?sign=1-ä", "x" * 512])
def test_texts_are_words_in_reverse_order(text: str) -> None:
    assert decode_text(encode_text(text)) == text
    assert encode_text("abcd") == b"dcba"
