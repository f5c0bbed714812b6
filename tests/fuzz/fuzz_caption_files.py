"""Target: WebVTT and SubRip. What is read can be written, and the written file has the same cues."""

from __future__ import annotations

from gateway.formats.captions.caption_file import read_caption_file
from gateway.formats.captions.cue_lines import MAX_CUES, MAX_TEXT
from gateway.formats.captions.webvtt import webvtt
from gateway.media.errors import InvalidData

SEEDS = [
    b"WEBVTT\n\nid\n00:01.000 --> 00:02.000 line:10%\n<v A>a &amp; b\n\nNOTE x\n\n00:00:03.000 --> 00:00:04.000\nc\n",
    b"\xef\xbb\xbf1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>a</i>\r\n\r\n2\r\n00:00:03,000 --> 00:00:04\r\n{\\an8}b\r\n",
    "\ufeff1\n00:00:01,000 --> 00:00:02,000\né\n".encode("utf-16-le"),
]


def fuzz(data: bytes) -> None:
    try:
        cues = read_caption_file(data)
    except InvalidData:
        return
    assert len(cues) <= MAX_CUES
    assert all(0 < len(cue.text) <= MAX_TEXT and cue.end is not None and cue.start < cue.end for cue in cues)
    written = read_caption_file(webvtt(cues))
    assert [(c.start, c.end, c.text) for c in written] == [(c.start, c.end, c.text) for c in cues], (cues, written)
