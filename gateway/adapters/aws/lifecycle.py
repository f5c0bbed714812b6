"""The lifecycle rules that move a bucket's recordings to cheaper storage classes. Other rules are not changed."""

from typing import Any, Final

from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, call, error_code
from gateway.settings.models import RecordingSettings

PREFIX: Final = "millrace-"
# S3 charges for at least 128 kB per object in the colder classes, and by default does not move smaller objects.
_MIN_BYTES: Final = 131_072
_UNFINISHED_DAYS: Final = 7
# S3 moves objects to these after 30 days at the earliest.
_AFTER_30_DAYS: Final = ("STANDARD_IA", "ONEZONE_IA")

Rule = dict[str, Any]


def rules(settings: RecordingSettings) -> list[Rule]:
    """Returns Millrace's rules for these settings.

    Raises ValueError, with a message for the operator, if S3 would reject the days.
    """
    cold, archive = settings.cold_after_days, settings.archive_after_days
    for name, days, kind in (("cold", cold, settings.cold_class), ("archive", archive, settings.archive_class)):
        if 0 < days < 30 and kind in _AFTER_30_DAYS:
            raise ValueError(f"recording.{name}_after_days: S3 moves objects to {kind} after 30 days at the earliest")
    if cold and archive and archive <= cold:
        raise ValueError("recording.archive_after_days: expected more days than recording.cold_after_days")
    transitions = [
        {"Days": days, "StorageClass": kind}
        for days, kind in ((cold, settings.cold_class), (archive, settings.archive_class))
        if days
    ]
    abort = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _UNFINISHED_DAYS}}
    uploads = {"ID": f"{PREFIX}unfinished-uploads", "Status": "Enabled", "Filter": {"Prefix": ""}, **abort}
    if not transitions:
        return [uploads]
    large = {"Filter": {"ObjectSizeGreaterThan": _MIN_BYTES}, "Transitions": transitions}
    return [{"ID": f"{PREFIX}storage-classes", "Status": "Enabled", **large}, uploads]


async def show(session: AwsSession, bucket: str) -> list[Rule]:
    """Returns all rules of the bucket. Raises StoreUnavailable."""
    async with session.client_for("s3", f"bucket {bucket}") as client:
        try:
            answer = await client.get_bucket_lifecycle_configuration(Bucket=bucket)
        except ClientError as error:
            if error_code(error) == "NoSuchLifecycleConfiguration":
                return []
            raise
    return list(answer["Rules"])


async def apply(session: AwsSession, bucket: str, settings: RecordingSettings) -> list[Rule]:
    """Replaces Millrace's rules. Does not change other rules.

    Returns all rules of the bucket. Raises StoreUnavailable, ValueError.
    """
    ours = rules(settings)
    merged = [rule for rule in await show(session, bucket) if not str(rule.get("ID", "")).startswith(PREFIX)] + ours
    configuration = {"LifecycleConfiguration": {"Rules": merged}}
    client = session.client_for("s3", f"bucket {bucket}")
    await call(client, "put_bucket_lifecycle_configuration", Bucket=bucket, **configuration)
    return merged
