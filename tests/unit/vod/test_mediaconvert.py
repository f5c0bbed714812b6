"""The MediaConvert job: the original's fields, AWS's own schema, and a golden file."""

from __future__ import annotations

import json
from pathlib import Path

from botocore.session import get_session
from botocore.validate import ParamValidator

from gateway.vod.mediaconvert import create_job

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "mediaconvert.json"
ROLE = "arn:aws:iam::111122223333:role/MediaConvert"
QUEUE = "arn:aws:mediaconvert:us-east-1:111122223333:queues/Default"


def job() -> dict[str, object]:
    return create_job("s3://in/films/a.mp4", "s3://out/films/a/", ROLE, QUEUE, bitrate=5_000_000, segment=10)


def test_the_job_equals_the_golden_file() -> None:
    assert job() == json.loads(GOLDEN.read_text())


def test_the_model_of_aws_accepts_the_job() -> None:
    shape = get_session().get_service_model("mediaconvert").operation_model("CreateJob").input_shape
    report = ParamValidator().validate(job(), shape)
    assert not report.has_errors(), report.generate_report()
    assert unknown(job(), shape) == []


def unknown(value: object, shape: object, path: str = "") -> list[str]:
    """Values that the model does not list; botocore's validator looks at types alone."""
    kind = shape.type_name  # type: ignore[attr-defined]
    if kind == "structure" and isinstance(value, dict):
        return [u for k, v in value.items() for u in unknown(v, shape.members[k], f"{path}.{k}")]  # type: ignore[attr-defined]
    if kind == "list" and isinstance(value, list):
        return [u for v in value for u in unknown(v, shape.member, path)]  # type: ignore[attr-defined]
    if kind == "map" and isinstance(value, dict):
        return [u for v in value.values() for u in unknown(v, shape.value, path)]  # type: ignore[attr-defined]
    enum = getattr(shape, "enum", None)
    return [f"{path}: {value}"] if enum and value not in enum else []


def test_an_empty_queue_is_the_accounts_default_one() -> None:
    assert "Queue" not in create_job("s3://in/a.mp4", "s3://out/a/", ROLE, "", bitrate=1, segment=10)


def test_the_job_uses_the_sound_of_the_film() -> None:
    settings = json.loads(GOLDEN.read_text())["Settings"]
    selector = next(iter(settings["Inputs"][0]["AudioSelectors"]))
    assert settings["OutputGroups"][0]["Outputs"][0]["AudioDescriptions"][0]["AudioSourceName"] == selector
