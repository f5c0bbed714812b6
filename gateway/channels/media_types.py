"""The suffixes and content types of uploaded films and pictures."""

from typing import Final

# The allowed suffixes of file names, those of all containers that workers read. The client sends the content type.
CONTENT_TYPES: Final = {
    "mp4": "video/mp4", "m4v": "video/mp4", "mov": "video/quicktime", "mkv": "video/x-matroska", "webm": "video/webm",
    "flv": "video/x-flv", "ts": "video/mp2t", "mts": "video/mp2t", "m2ts": "video/mp2t", "avi": "video/x-msvideo",
    "mpg": "video/mpeg", "mpeg": "video/mpeg", "3gp": "video/3gpp", "wmv": "video/x-ms-wmv", "ogv": "video/ogg",
    "mxf": "application/mxf", "m4a": "audio/mp4", "mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac",
    "ogg": "audio/ogg", "aac": "audio/aac",
    **dict.fromkeys(
        ("3g2", "asf", "f4v", "vob", "m2v", "gxf", "dv", "rm", "rmvb", "nut", "ivf", "h264", "hevc", "obu", "wtv",
         "swf", "mka", "wma", "oga", "opus", "w64", "aif", "aiff", "ac3", "eac3", "caf", "amr", "au"),
        "application/octet-stream",
    ),
}  # fmt: skip
# Pictures are not converted to video; slates use them.
PICTURE_TYPES: Final = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
}
