"""Messages of a queue that tells of a bucket: a list of named objects, or ValueError."""

from __future__ import annotations

from gateway.adapters.aws.s3_events import created_objects

SEEDS = [
    b'{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"a+b%C3%A4.mp4"}}}]}',
    b'{"Records":[{"eventName":"s3:ObjectRemoved:Delete","s3":{"bucket":{"name":"b"},"object":{"key":"a"}}}]}',
    b'{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}',
    b'{"Type":"Notification","Message":"{\\"Records\\":[]}"}',
    b'{"source":"aws.s3","detail-type":"Object Created","detail":{"bucket":{"name":"b"},"object":{"key":"a"}}}',
    b"[" * 5000,
]


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module; no name is empty."""
    try:
        found = created_objects(data.decode("utf-8", "replace"))
    except ValueError:
        return
    for bucket, key in found:
        assert isinstance(bucket, str) and bucket
        assert isinstance(key, str) and key
