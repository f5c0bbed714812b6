"""The settings section `kvs`, and environment variables of the original system for its options."""

from __future__ import annotations

import pytest

from gateway.settings import SettingsError, load
from gateway.settings.layers import merge

ROLE = "arn:aws:iam::123456789012:role/service/kvs"
STREAM = "arn:aws:kinesisvideo:eu-west-1:123456789012:stream/lobby/1500000000000"


def test_variables_of_the_original_system_set_these_options() -> None:
    kvs = load(environ={"ECS_ROLE": ROLE, "KVS_STREAM_ARN": STREAM, "COUNT_FREQUENCY": "30"}).kvs
    assert (kvs.role, kvs.stream, kvs.log_every) == (ROLE, STREAM, 30)
    assert merge(environ={"KVS_STREAM_ARN": STREAM}).values["kvs.stream"].source == "KVS_STREAM_ARN"


def test_our_variables_take_precedence_and_empty_original_ones_are_ignored() -> None:
    environ = {"KVS_STREAM_ARN": STREAM, "MILLRACE_KVS__STREAM": "hall", "COUNT_FREQUENCY": "", "ECS_ROLE": ""}
    kvs = load(environ=environ).kvs
    assert (kvs.stream, kvs.log_every, kvs.role) == ("hall", 60, "")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("COUNT_FREQUENCY", "NaN", "COUNT_FREQUENCY"),
        ("KVS_STREAM_ARN", "arn:aws:s3:::bucket", "the name or ARN of a Kinesis video stream"),
        ("ECS_ROLE", "administrator", "the ARN of a role"),
        ("MILLRACE_KVS__SIZE", "640", "width x height"),
        ("MILLRACE_KVS__SIZE", "8x8", "width x height"),
        ("MILLRACE_KVS__OBJECT_BYTES", "-1", "a whole number"),
    ],
)
def test_invalid_values_are_refused_with_a_reason(variable: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(environ={variable: value})


@pytest.mark.parametrize("value", ["320x240", [320, 240]])
def test_the_picture_size_is_read_in_both_formats(value: object) -> None:
    merged = merge(environ={})
    merged.put("kvs.size", value, "test")
    assert merged.settings().kvs.size == (320, 240)


def test_a_queue_of_objects_needs_a_stream() -> None:
    queue = {"MILLRACE_KVS__QUEUE": "https://sqs.eu-central-1.amazonaws.com/123456789012/objects"}
    with pytest.raises(SettingsError, match=r"kvs\.stream"):
        load(environ=queue)
    assert load(environ={**queue, "KVS_STREAM_ARN": STREAM}).kvs.suffixes == ()
