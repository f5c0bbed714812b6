"""The numbers of the specification: our own reader and writer alone could agree on wrong ones."""

from gateway.protocols.rtmp import message
from gateway.protocols.rtmp.message import CSID, UserControl


def test_message_types_are_those_of_the_specification() -> None:
    # RTMP 1.0 §5.4 and §7.1
    assert [
        message.SET_CHUNK_SIZE,
        message.ABORT,
        message.ACKNOWLEDGEMENT,
        message.USER_CONTROL,
        message.WINDOW_ACK_SIZE,
        message.SET_PEER_BANDWIDTH,
    ] == [1, 2, 3, 4, 5, 6]
    assert (message.AUDIO, message.VIDEO, message.AGGREGATE) == (8, 9, 22)
    assert (message.DATA_AMF3, message.SHARED_OBJECT_AMF3, message.COMMAND_AMF3) == (15, 16, 17)
    assert (message.DATA, message.SHARED_OBJECT, message.COMMAND) == (18, 19, 20)


def test_events_of_user_control_are_those_of_the_specification() -> None:
    # RTMP 1.0 §7.1.7
    assert [(event.name, event.value) for event in UserControl] == [
        ("STREAM_BEGIN", 0),
        ("STREAM_EOF", 1),
        ("STREAM_DRY", 2),
        ("SET_BUFFER_LENGTH", 3),
        ("STREAM_IS_RECORDED", 4),
        ("PING_REQUEST", 6),
        ("PING_RESPONSE", 7),
    ]


def test_each_kind_of_message_has_a_chunk_stream_of_its_own() -> None:
    # RTMP 1.0 §5.4: "Protocol control messages … MUST … be sent in chunk stream ID 2"
    assert message.CSID_CONTROL == 2
    assert len({message.CSID_CONTROL, *CSID.values()}) == 5
    assert all(2 <= csid <= 63 for csid in CSID.values())  # a basic header of one byte
