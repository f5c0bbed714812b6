"""The rules of a bucket that move recordings to cheaper storage classes. Rules of others stay as they are."""

from __future__ import annotations

from typing import Any, Final

from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, error_code
from gateway.settings.models import RecordingSettings

OURS: Final = "millrace-"
# S3 bills small objects in the colder classes as 128 kB, and by default moves none of them.
_MIN_BYTES: Final = 131_072
_UNFINISHED_DAYS: Final = 7
# S3 takes objects into these after 30 days at the earliest.
_LATE: Final = ("STANDARD_IA", "ONEZONE_IA")

Rule = dict[str, Any]


def rules(settings: RecordingSettings) -> list[Rule]:
    """Returns Millrace's rules for these settings.

    Raises ValueError, with a message for the operator, for days that S3 would refuse.
    """
    cold, archive = settings.cold_after_days, settings.archive_after_days
    for name, days, kind in (("cold", cold, settings.cold_class), ("archive", archive, settings.archive_class)):
        if 0 < days < 30 and kind in _LATE:
            raise ValueError(f"recording.{name}_after_days: S3 moves objects to {kind} after 30 days at the earliest")
    if cold and archive and archive <= cold:
        raise ValueError("recording.archive_after_days: expected more days than recording.cold_after_days")
    transitions = [
        {"Days": days, "StorageClass": kind}
        for days, kind in ((cold, settings.cold_class), (archive, settings.archive_class))
        if days
    ]
    found: list[Rule] = []
    if transitions:
        found.append(
            {
                "ID": f"{OURS}storage-classes",
                "Status": "Enabled",
                "Filter": {"ObjectSizeGreaterThan": _MIN_BYTES},
                "Transitions": transitions,
            }
        )
    found.append(
        {
            "ID": f"{OURS}unfinished-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _UNFINISHED_DAYS},
        }
    )
    return found


async def show(session: AwsSession, bucket: str) -> list[Rule]:
    """Returns all rules of the bucket. Raises StoreUnavailable."""
    async with session.calling("s3", f"bucket {bucket}") as client:
        try:
            answer = await client.get_bucket_lifecycle_configuration(Bucket=bucket)
        except ClientError as error:
            if error_code(error) == "NoSuchLifecycleConfiguration":
                return []
            raise
    return list(answer["Rules"])


async def apply(session: AwsSession, bucket: str, settings: RecordingSettings) -> list[Rule]:
    """Replaces Millrace's rules and leaves the others.

    Returns all rules of the bucket. Raises StoreUnavailable, ValueError.
    """
    ours = rules(settings)
    merged = [rule for rule in await show(session, bucket) if not str(rule.get("ID", "")).startswith(OURS)] + ours
    async with session.calling("s3", f"bucket {bucket}") as client:
        await client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": merged})
    return merged
