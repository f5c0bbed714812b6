"""The link of a push over SRT in the answer for a session."""

from gateway.api.session_schemas import Link
from gateway.protocols.srt.statistics import LinkPath, LinkStatistics
from gateway.reports.sessions import link, session
from tests.unit.diagnosis.rig import Push

STATE = LinkStatistics(
    61.5, 2.1, 240, 3, 240, 231, (LinkPath("192.0.2.7", 64.0, None, True), LinkPath("192.0.2.8", 36.0, 80.0, False))
)


def test_the_link_has_the_names_of_the_contract() -> None:
    shown = link(STATE)
    assert shown == {
        "rttMs": 61.5,
        "lossPercent": 2.1,
        "retransmitted": 240,
        "dropped": 3,
        "latencyMs": 240,
        "bufferMs": 231,
        "links": [
            {"peer": "192.0.2.7", "sharePercent": 64.0, "rttMs": None, "state": "up"},
            {"peer": "192.0.2.8", "sharePercent": 36.0, "rttMs": 80.0, "state": "down"},
        ],
    }
    assert Link.model_validate(shown).model_dump() == shown


def test_only_a_session_of_a_push_by_srt_has_a_link() -> None:
    push = Push()
    push.send(1)
    assert "link" not in session("c1", push.stream)
    push.publisher.network = lambda: STATE
    assert session("c1", push.stream)["link"] == link(STATE)
    assert "webrtc" not in session("c1", push.stream)["publisher"]
    push.publisher.close()
    assert "link" not in session("c1", push.stream)
