"""Builds an AWS MediaConvert job with the same output as Millrace's own VOD jobs."""

from typing import Any

from gateway.workers.package_protocol import POSTER_QUALITY, THUMBNAIL_QUALITY


def create_job(source: str, destination: str, role: str, queue: str, *, bitrate: int, segment: int) -> dict[str, Any]:
    """Returns the body of a CreateJob request.

    source: s3://bucket/key. destination: s3://bucket/prefix/, with a slash at the end; file names follow the source's.
    role: ARN; if "", it must be added later. queue: ARN; "" for the account's default queue.
    bitrate: maximum bits per second. segment: seconds.
    The video settings are those of the old system (see docs/migrating.md). Audio was added: the old jobs had none.
    """
    groups = [
        _group("hls", _hls_settings(destination, segment), _hls_output(bitrate)),
        _group("poster", _file_settings(destination), _still(POSTER_QUALITY)),
        _group("thumbnail", _file_settings(f"{destination}thumbnail"), _still(THUMBNAIL_QUALITY)),
    ]
    head = {"UserMetadata": {"Customer": "Amazon"}, "BillingTagsSource": "QUEUE"}
    account = {name: arn for name, arn in (("Role", role), ("Queue", queue)) if arn}
    settings = {"TimecodeConfig": {"Source": "EMBEDDED"}, "AdAvailOffset": 0, "OutputGroups": groups}
    return {**head, **account, "Settings": {**settings, "Inputs": [_input(source)]}}


def _input(source: str) -> dict[str, Any]:
    return {
        "AudioSelectors": {"Audio Selector 1": {"DefaultSelection": "DEFAULT", "Offset": 0, "ProgramSelection": 1}},
        "VideoSelector": {"ColorSpace": "FOLLOW", "Rotate": "AUTO"},
        "FilterEnable": "AUTO", "PsiControl": "USE_PSI", "FilterStrength": 0, "DeblockFilter": "DISABLED",
        "DenoiseFilter": "DISABLED", "TimecodeSource": "EMBEDDED", "FileInput": source,
    }  # fmt: skip


def _group(name: str, settings: dict[str, Any], output: dict[str, Any]) -> dict[str, Any]:
    return {"Name": name, "CustomName": name, "Outputs": [output], "OutputGroupSettings": settings}


def _hls_settings(destination: str, segment: int) -> dict[str, Any]:
    settings = {
        "ManifestDurationFormat": "FLOATING_POINT", "SegmentLength": segment, "TimedMetadataId3Period": 10,
        "CaptionLanguageSetting": "OMIT", "Destination": destination, "TimedMetadataId3Frame": "PRIV",
        "CodecSpecification": "RFC_4281", "OutputSelection": "MANIFESTS_AND_SEGMENTS", "ProgramDateTimePeriod": 600,
        "MinSegmentLength": 0, "DirectoryStructure": "SINGLE_DIRECTORY", "ProgramDateTime": "EXCLUDE",
        "SegmentControl": "SEGMENTED_FILES", "ManifestCompression": "NONE", "ClientCache": "ENABLED",
        "StreamInfResolution": "INCLUDE",
    }  # fmt: skip
    return {"Type": "HLS_GROUP_SETTINGS", "HlsGroupSettings": settings}


def _hls_output(bitrate: int) -> dict[str, Any]:
    h264 = {
        "RateControlMode": "QVBR", "MaxBitrate": bitrate, "SceneChangeDetect": "TRANSITION_DETECTION",
        "QualityTuningLevel": "SINGLE_PASS", "GopSize": 2.0, "GopSizeUnits": "SECONDS",
        "FramerateControl": "INITIALIZE_FROM_SOURCE", "ParControl": "INITIALIZE_FROM_SOURCE",
    }  # fmt: skip
    aac = {
        "Bitrate": 128_000, "CodingMode": "CODING_MODE_2_0", "SampleRate": 48_000, "RateControlMode": "CBR",
        "CodecProfile": "LC", "RawFormat": "NONE", "Specification": "MPEG4",
    }  # fmt: skip
    audio = {
        "AudioSourceName": "Audio Selector 1", "AudioTypeControl": "FOLLOW_INPUT",
        "LanguageCodeControl": "FOLLOW_INPUT", "CodecSettings": {"Codec": "AAC", "AacSettings": aac},
    }  # fmt: skip
    return {
        "NameModifier": "stream",
        "ContainerSettings": {
            "Container": "M3U8",
            "M3u8Settings": {"AudioFramesPerPes": 4, "PcrControl": "PCR_EVERY_PES_PACKET"},
        },
        "VideoDescription": _video({"Codec": "H_264", "H264Settings": h264}),
        "AudioDescriptions": [audio],
    }


def _file_settings(destination: str) -> dict[str, Any]:
    return {"Type": "FILE_GROUP_SETTINGS", "FileGroupSettings": {"Destination": destination}}


def _still(quality: int) -> dict[str, Any]:
    capture = {"FramerateNumerator": 1, "FramerateDenominator": 1, "MaxCaptures": 1, "Quality": quality}
    video = _video({"Codec": "FRAME_CAPTURE", "FrameCaptureSettings": capture})
    return {"ContainerSettings": {"Container": "RAW"}, "VideoDescription": video, "Extension": "jpg"}


def _video(codec: dict[str, Any]) -> dict[str, Any]:
    return {
        "ScalingBehavior": "DEFAULT", "TimecodeInsertion": "DISABLED", "AntiAlias": "ENABLED", "Sharpness": 50,
        "CodecSettings": codec, "DropFrameTimecode": "ENABLED", "ColorMetadata": "INSERT",
    }  # fmt: skip
