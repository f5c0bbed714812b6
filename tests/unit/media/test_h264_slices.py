"""Slices of our encoder with the parameter sets of another one: decoders get the same pictures."""

from collections.abc import Iterator
from fractions import Fraction

import av
import pytest
from av.codec.context import Flags
from av.video.frame import PictureType

from gateway.media import h264, nal
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.h264_slices import SliceRewriter, coding_parameters, parse_pps

WIDTH, HEIGHT = 98, 66  # with cropping at the right and at the bottom
OWN = "ref=1:bframes=0:weightp=0:psy=0:deblock=0,0:scenecut=0:keyint=20"


def encoder(parameters: str, pixels: str = "yuv420p", height: int = HEIGHT, **options: str) -> av.VideoCodecContext:
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = WIDTH, height, pixels
    context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
    context.flags |= Flags.global_header
    context.options = {"x264-params": parameters, **options}
    context.open()
    return context


def config(context: av.VideoCodecContext) -> bytes:
    units = nal.split_annexb(bytes(context.extradata or b""))
    return h264.build_avcc([u for u in units if u[0] & 31 == h264.SPS], [u for u in units if u[0] & 31 == h264.PPS])


def frames(count: int, pixels: str = "yuv420p") -> Iterator[av.VideoFrame]:
    graph = av.filter.Graph()
    source = graph.add("testsrc2", f"s={WIDTH}x{HEIGHT}:r=30")
    form, sink = graph.add("format", pixels), graph.add("buffersink")
    source.link_to(form)
    form.link_to(sink)
    graph.configure()
    for number in range(count):
        frame = sink.pull()
        assert isinstance(frame, av.VideoFrame)
        frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, 30), PictureType.NONE
        yield frame


def encode(context: av.VideoCodecContext, count: int, pixels: str = "yuv420p") -> list[bytes]:
    packets = [bytes(packet) for frame in frames(count, pixels) for packet in context.encode(frame)]
    return [nal.from_annexb(data) for data in packets + [bytes(packet) for packet in context.encode(None)]]


def decode(extra: bytes, payloads: list[bytes]) -> list[bytes]:
    context = av.CodecContext.create("h264", "r")
    context.extradata = extra
    context.options = {"err_detect": "explode"}
    decoded = []
    for number, payload in enumerate([*payloads, None]):
        packet: av.Packet | None = None
        if payload is not None:
            packet = av.Packet(payload)
            packet.pts = packet.dts = number
        decoded += [b"".join(map(bytes, frame.planes)) for frame in context.decode(packet)]  # type: ignore[attr-defined]
    return decoded


@pytest.mark.parametrize(
    ("theirs", "options"),
    [
        ("bframes=3:ref=4:weightp=2", {}),
        ("bframes=0:cabac=0:ref=1", {"profile": "baseline"}),
        ("bframes=2:8x8dct=0", {"profile": "main"}),
        ("constrained-intra=1:chroma-qp-offset=4:psy=0:ref=2", {}),
        ("qp=40:slices=3:nal-hrd=vbr:vbv-maxrate=500:vbv-bufsize=500", {}),
    ],
    ids=["high", "baseline", "main", "unusual", "hrd"],
)
def test_rewritten_slices_decode_to_the_same_pictures_with_another_encoders_sets(
    theirs: str, options: dict[str, str]
) -> None:
    publisher = encoder(theirs, **options)
    target_config = config(publisher)
    target = coding_parameters(target_config)
    pps = target.pps
    own = encoder(
        f"{OWN}:cabac={int(pps.cabac)}:8x8dct={int(pps.transform_8x8)}"
        f":constrained-intra={int(pps.constrained_intra)}:chroma-qp-offset={pps.chroma_offsets[0]}"
    )
    own_config = config(own)
    # More pictures than 16, the smallest period of frame_num, and a second IDR picture.
    given = encode(own, 45)
    rewriter = SliceRewriter(coding_parameters(own_config), target)
    rewritten = [rewriter.rewrite(payload) for payload in given]
    pictures = decode(own_config, given)
    assert len(set(pictures)) == 45
    assert decode(target_config, rewritten) == pictures
    # In the middle of the publisher's own stream, neither side is damaged.
    published = encode(publisher, 10)
    mixed = decode(target_config, [*published, *rewritten, *published])
    assert len(mixed) == 65
    assert mixed[10:55] == pictures
    assert mixed[:10] == mixed[55:]


def test_slices_with_high_bit_depth_are_rewritten_too() -> None:
    target_config = config(encoder("bframes=2:psy=0", "yuv420p10le"))
    own = encoder(OWN, "yuv420p10le")
    given = encode(own, 5, "yuv420p10le")
    rewriter = SliceRewriter(coding_parameters(config(own)), coding_parameters(target_config))
    assert decode(target_config, [rewriter.rewrite(p) for p in given]) == decode(config(own), given)


@pytest.mark.parametrize(("parameters", "reason"), [("interlaced=1", "interlaced"), ("cqm=jvt", "scaling")])
def test_rare_tools_are_refused(parameters: str, reason: str) -> None:
    with pytest.raises(UnsupportedCodec, match=reason):
        coding_parameters(config(encoder(parameters, height=64)))


def test_sets_with_other_macroblocks_are_refused() -> None:
    cabac, cavlc = (coding_parameters(config(encoder(f"{OWN}:cabac={n}"))) for n in (1, 0))
    with pytest.raises(UnsupportedCodec, match="entropy"):
        SliceRewriter(cabac, cavlc)


def test_pictures_with_b_slices_are_refused() -> None:
    context = encoder("bframes=3:b-adapt=0")
    rewriter = SliceRewriter(*[coding_parameters(config(encoder(OWN)))] * 2)
    with pytest.raises(InvalidData):
        for payload in encode(context, 12):
            rewriter.rewrite(payload)


def test_damaged_sets_and_slices_are_invalid_data() -> None:
    own = encoder(OWN)
    good = coding_parameters(config(own))
    payload = encode(own, 2)[1]
    rewriter = SliceRewriter(good, good)
    with pytest.raises(InvalidData):
        rewriter.rewrite(b"\x00\x00\x00\x01\x41")
    with pytest.raises(InvalidData):
        rewriter.rewrite(b"")
    assert rewriter.rewrite(payload)
    for data in (b"\x68", b"\x67\xff\xff", b"\x68\x00\x00\x00"):
        with pytest.raises(InvalidData):
            parse_pps(data)
