"""Rules of RFC 8216bis over time on a live HLS or LL-HLS presentation: playlists, parts, segments and directives."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from judges.fetch import get
from judges.findings import Findings
from judges.hls_playlist import Multivariant, Playlist, Variant, parse_multivariant, unquoted
from judges.hls_rendition import Rendition

# Bandwidths are measured: a peak may exceed the figure that was told at the start by so much.
BANDWIDTH_GRACE = 1.10
# Renditions of one source may differ by so much where a discontinuity lies, in seconds.
DISCONTINUITY_GRACE = 0.5


def judge(url: str, seconds: float, findings: Findings, *, paced: bool = True) -> None:
    """Follows every Media Playlist of a multivariant playlist, or the one Media Playlist that is given.

    paced: the publisher makes no pause, so that updates must come in time.
    """
    answer = get(url)
    if answer.status != 200:
        findings.breaks("the playlist is available", f"{answer.status} {url}")
        return
    text = answer.body.decode(errors="replace")
    multivariant = parse_multivariant(text, findings) if "#EXT-X-STREAM-INF" in text else Multivariant()
    renditions = _renditions(multivariant, url, seconds, findings, paced=paced)
    for rendition in renditions:
        rendition.start()
    for rendition in renditions:
        rendition.join(seconds + 40)
    _agree(renditions, findings)
    for rendition in renditions:
        if rendition.last is None:
            continue
        if rendition.last.ended:
            _directives_after_the_end(rendition, findings)
        elif len(renditions) > 1:
            _reports(rendition, rendition.last, renditions, findings)
    for variant in multivariant.variants:
        _variant(variant, multivariant, url, renditions, findings)
    for rendition in renditions[:2]:
        _directives(rendition, findings)


def _renditions(
    multivariant: Multivariant, url: str, seconds: float, findings: Findings, *, paced: bool
) -> list[Rendition]:
    uris = [uri for group in multivariant.groups.values() for uri in group]
    uris += [variant.uri for variant in multivariant.variants]
    if not uris:
        return [Rendition(url, url.rpartition("/")[2], seconds, findings, paced=paced)]
    return [Rendition(urljoin(url, uri), uri, seconds, findings, paced=paced) for uri in dict.fromkeys(uris)]


def _agree(renditions: list[Rendition], findings: Findings) -> None:
    """§6.2.4: renditions have the same target and the same server control."""
    playlists = {rendition.label: rendition.last for rendition in renditions if rendition.last is not None}
    targets = {name: playlist.target for name, playlist in playlists.items()}
    findings.require(len(set(targets.values())) <= 1, "6.2.4 the same TARGETDURATION in all", targets)
    controls = {name: str(playlist.control) for name, playlist in playlists.items()}
    findings.require(len(set(controls.values())) <= 1, "6.2.4 the same SERVER-CONTROL in all", controls)


def _reports(rendition: Rendition, last: Playlist, renditions: list[Rendition], findings: Findings) -> None:
    """§4.4.5.4 and appendix B.1: a report for each other Media Playlist that the multivariant playlist lists."""
    if not last.part_target:
        return
    others = {other.url: other for other in renditions if other is not rendition}
    told = {urljoin(rendition.url, unquoted(report["URI"])): report for report in last.reports if "URI" in report}
    lacking, foreign = others.keys() - told.keys(), told.keys() - others.keys()
    findings.require(
        not lacking, "B.1 a rendition report for each other playlist", f"{rendition.label} {_paths(lacking)}"
    )
    findings.require(not foreign, "4.4.5.4 a report of a listed playlist only", f"{rendition.label} {_paths(foreign)}")
    for url in others.keys() & told.keys():
        other, number = others[url].last, int(told[url].get("LAST-MSN", -1))
        fresh = other is None or abs(number - other.last) <= 2
        words = f"{rendition.label} says {number} of {others[url].label}, {other and other.last}"
        findings.require(fresh, "4.4.5.4 a report is as new as its playlist", words)


def _paths(urls: set[str]) -> list[str]:
    return sorted(urlsplit(url).path.split("/", 2)[2] for url in urls)


def _directives_after_the_end(rendition: Rendition, findings: Findings) -> None:
    """§6.2.5: delivery directives are ignored once ENDLIST is there."""
    for query in ("_HLS_msn=99999999&_HLS_part=3", "_HLS_skip=YES"):
        answer, playlist = rendition.load(query)
        ignored = playlist is not None and playlist.ended and not playlist.skipped
        words = f"{rendition.label} ?{query} {answer.status} in {answer.seconds:.1f} s"
        findings.require(ignored, "6.2.5 directives are ignored after ENDLIST", words)


def _variant(
    variant: Variant, multivariant: Multivariant, url: str, renditions: list[Rendition], findings: Findings
) -> None:
    by_url = {rendition.url: rendition for rendition in renditions}
    rendition = by_url[urljoin(url, variant.uri)]
    group = multivariant.groups.get(unquoted(variant.attributes.get("AUDIO", "")), [])
    peers = [peer for uri in group if (peer := by_url[urljoin(url, uri)]) is not rendition]
    _bandwidth(variant, rendition, peers, findings)
    for peer in peers:
        _discontinuities_agree(rendition, peer, findings)


def _bandwidth(variant: Variant, rendition: Rendition, peers: list[Rendition], findings: Findings) -> None:
    """§4.4.6.2: BANDWIDTH is the largest rate of contiguous segments of 0.5 to 1.5 targets, its audio included."""
    if rendition.last is None or rendition.last.target is None:
        return
    target, rates = rendition.last.target, []
    numbers = sorted(rendition.segments)
    durations = {n: rendition.follower.segments[n].segment.duration or 0.0 for n in numbers}
    sizes = {n: sum(len(one.segments[n].data) for one in [rendition, *peers] if n in one.segments) for n in numbers}
    for at in range(len(numbers)):
        seconds, size = 0.0, 0
        for number in numbers[at:]:
            seconds, size = seconds + durations[number], size + sizes[number]
            if 0.5 * target <= seconds <= 1.5 * target:
                rates.append(size * 8 / seconds)
    if not rates:
        return
    told = int(variant.attributes.get("BANDWIDTH", 0))
    findings.note(f"{rendition.label}: BANDWIDTH told and measured", f"{told} {max(rates):.0f}")
    words = f"{rendition.label} {told} < {max(rates):.0f}"
    findings.require(max(rates) <= told * BANDWIDTH_GRACE, "4.4.6.2 BANDWIDTH is the peak (10 % grace)", words)


def _discontinuities_agree(one: Rendition, other: Rendition, findings: Findings) -> None:
    """§6.2.4: matching content has matching discontinuities and discontinuity numbers."""

    def found(rendition: Rendition) -> list[tuple[float, int | None]]:
        known = rendition.follower.segments.values()
        return sorted(
            (each.segment.date, each.discontinuity_number)
            for each in known
            if each.segment.discontinuity and each.segment.date is not None
        )

    mine, theirs = found(one), found(other)
    words = f"{one.label} {mine}, {other.label} {theirs}"
    findings.require(len(mine) == len(theirs), "6.2.4 discontinuities agree between renditions", words)
    for (at, number), (their_at, their_number) in zip(mine, theirs, strict=False):
        near = abs(at - their_at) <= DISCONTINUITY_GRACE
        findings.require(near, "6.2.4 discontinuities agree between renditions", words)
        same = number is None or their_number is None or number == their_number
        findings.require(same, "6.2.4 DISCONTINUITY-SEQUENCE agrees between renditions", words)


def _directives(rendition: Rendition, findings: Findings) -> None:
    """§6.2.5.2: what is no directive is 400; what is there already is answered at once."""
    _, playlist = rendition.load()
    if playlist is None or playlist.ended or not playlist.blocking:
        return
    refused = {
        "a part without its segment": "_HLS_part=0",
        "a segment far ahead": f"_HLS_msn={playlist.last + 20}",
        "no number": "_HLS_msn=x",
        "a negative number": "_HLS_msn=-1",
        "a part that is no number": f"_HLS_msn={playlist.last}&_HLS_part=x",
    }
    for name, query in refused.items():
        answer, _ = rendition.load(query)
        words = f"{rendition.label} ?{query} {answer.status}"
        findings.require(answer.status == 400, f"6.2.5.2 {name} is 400", words)
        cached = "max-age" in answer.header("Cache-Control")
        findings.require(not cached, "an error is not cached", answer.header("Cache-Control"))
    served = {
        "a segment that is there": f"_HLS_msn={playlist.sequence}",
        "a segment older than the window": f"_HLS_msn={max(playlist.sequence - 5, 0)}",
        "a delta of version 2": "_HLS_skip=v2",
        "an unknown directive": "_HLS_foo=1",
        "a part behind the end of a closed segment": f"_HLS_msn={playlist.last}&_HLS_part=50",
    }
    for name, query in served.items():
        answer, _ = rendition.load(query)
        words = f"{rendition.label} ?{query} {answer.status} in {answer.seconds:.1f} s"
        findings.require(answer.status == 200, f"6.2.5.2 {name} is answered", words)
    if playlist.hinted:
        _hinted(rendition, playlist.hinted, findings)


def _hinted(rendition: Rendition, hinted: str, findings: Findings) -> None:
    """§6.2.6: a hinted part can be asked for; one that is not hinted is 404 at once."""
    match = re.fullmatch(r"(.*?)(\d+)(\.\w+)", hinted)
    if match is not None:
        answer = get(urljoin(rendition.url, f"{match[1]}{int(match[2]) + 40}{match[3]}"))
        words = f"{rendition.label} {answer.status} in {answer.seconds:.1f} s"
        findings.require(answer.status == 404 and answer.seconds < 1, "6.2.6 a part that is not hinted is 404", words)
    answer = get(urljoin(rendition.url, hinted))
    words = f"{rendition.label} {hinted} {answer.status} in {answer.seconds:.1f} s"
    findings.require(answer.status == 200, "6.2.6 a hinted part can be asked for", words)
