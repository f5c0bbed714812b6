"""Events of an S3 bucket in all the formats in which they arrive."""

from __future__ import annotations

import json

import pytest

from gateway.adapters.aws.s3_events import ObjectRule, created_objects


def record(key: str, name: str = "ObjectCreated:Put", bucket: str = "b") -> dict[str, object]:
    return {"eventName": name, "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 1}}}


def test_each_record_gives_one_object_with_a_decoded_key() -> None:
    body = json.dumps(
        {"Records": [record("a+b%C3%A4.mp4"), record("c%2Bd.mp4", "s3:ObjectCreated:CompleteMultipartUpload")]}
    )
    assert created_objects(body) == [("b", "a bä.mp4"), ("b", "c+d.mp4")]


def test_a_removal_event_gives_no_created_object() -> None:
    assert created_objects(json.dumps({"Records": [record("a.mp4", "ObjectRemoved:Delete")]})) == []


def test_the_s3_test_event_gives_no_object() -> None:
    assert created_objects(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"})) == []


def test_an_event_inside_an_sns_notification_is_read() -> None:
    inner = json.dumps({"Records": [record("a.mp4")]})
    assert created_objects(json.dumps({"Type": "Notification", "Message": inner})) == [("b", "a.mp4")]


def test_eventbridge_does_not_encode_keys() -> None:
    event = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": "b"}, "object": {"key": "a+b%.mp4"}},
    }
    assert created_objects(json.dumps(event)) == [("b", "a+b%.mp4")]
    assert created_objects(json.dumps({**event, "detail-type": "Object Deleted"})) == []


@pytest.mark.parametrize(
    "body",
    [
        *("", "text", "[]", "{}", "[" * 100_000, '{"Records": 1}', '{"Records": [1]}'),
        '{"Records": [{"eventName": "ObjectCreated:Put", "s3": {}}]}',
        json.dumps({"Records": [record("")]}),
    ],
)
def test_other_bodies_are_rejected(body: str) -> None:
    with pytest.raises(ValueError):
        created_objects(body)


async def _ignore(bucket: str, key: str) -> None:
    raise AssertionError("a rule is only asked")


@pytest.mark.parametrize(
    ("rule", "accepted", "ignored"),
    [
        (ObjectRule(_ignore), ["a", "x/y.MP4"], []),
        (ObjectRule(_ignore, [".mp4", ".MOV"]), ["a.mp4", "a.MP4", "b/c.mov"], ["a", "a.mp4.txt"]),
        (ObjectRule(_ignore, prefix="in/"), ["in/a", "in/"], ["a", "x/in/a", "IN/a"]),
        (ObjectRule(_ignore, [".mp4"], excluded="in/"), ["a.mp4"], ["in/a.mp4"]),
        (ObjectRule(_ignore, [".mp4"], also=lambda key: key == "b.mov"), ["a.mp4", "b.mov"], ["a.mov"]),
    ],
)
def test_a_rule_accepts_keys_by_prefix_and_suffix(rule: ObjectRule, accepted: list[str], ignored: list[str]) -> None:
    assert [key for key in accepted + ignored if rule.accepts(key)] == accepted
