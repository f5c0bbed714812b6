"""The link of a push over SRT in the answer for a session."""

import json

from gateway.api.session_schemas import Session
from gateway.protocols.srt.statistics import LinkPath, LinkStatistics
from gateway.reports.sessions import session
from tests.unit.diagnosis.rig import Push

STATE = LinkStatistics(
    61.5, 2.1, 240, 3, 240, 231, (LinkPath("192.0.2.7", 64.0, None, "up"), LinkPath("192.0.2.8", 36.0, 80.0, "down"))
)


def test_the_link_has_the_names_of_the_contract() -> None:
    push = Push()
    push.send(1)
    push.publisher.network = lambda: STATE
    shown = session("c1", push.stream)
    assert json.loads(json.dumps(shown["link"])) == {
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
    assert list(shown["link"]) == list(Session.model_json_schema()["$defs"]["Link"]["properties"])


def test_only_a_session_of_a_push_by_srt_has_a_link() -> None:
    push = Push()
    push.send(1)
    assert "link" not in session("c1", push.stream)
    push.publisher.network = lambda: STATE
    assert session("c1", push.stream)["link"]["rttMs"] == STATE.rtt_ms
    assert "webrtc" not in session("c1", push.stream)["publisher"]
    push.publisher.close()
    assert "link" not in session("c1", push.stream)
