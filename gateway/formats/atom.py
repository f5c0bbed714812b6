"""Writes a feed in Atom, RFC 4287."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree

NAMESPACE: Final = "http://www.w3.org/2005/Atom"
_NO_XML: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0 §2.2


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """An entry. id: an address or urn that stays. published, updated: RFC 3339. link: "" if unknown."""

    id: str
    title: str
    published: str
    updated: str
    link: str


@dataclass(frozen=True, slots=True)
class Feed:
    """A feed. own: its own address. link: of its page. author: §4.1.1 wants one. updated: RFC 3339."""

    id: str
    title: str
    subtitle: str
    author: str
    own: str
    link: str
    updated: str


def write_feed(feed: Feed, entries: Sequence[FeedEntry]) -> bytes:
    """Returns the feed as UTF-8. Characters that XML does not allow are left out."""
    root = ElementTree.Element("feed", {"xmlns": NAMESPACE})
    _add(root, "id", feed.id)
    _add(root, "title", feed.title)
    if feed.subtitle:
        _add(root, "subtitle", feed.subtitle)
    _add(root, "updated", feed.updated)
    _add(ElementTree.SubElement(root, "author"), "name", feed.author)
    _add(root, "link", "", rel="self", type="application/atom+xml", href=feed.own)
    _add(root, "link", "", rel="alternate", type="text/html", href=feed.link)
    for entry in entries:
        element = ElementTree.SubElement(root, "entry")
        for name in ("id", "title", "published", "updated"):
            _add(element, name, getattr(entry, name))
        _add(element, "link", "", rel="alternate", type="text/html", href=entry.link)
    written: bytes = ElementTree.tostring(root, "utf-8", xml_declaration=True)
    return written


def _add(parent: ElementTree.Element, name: str, text: str, **attributes: str) -> None:
    values = {key: _NO_XML.sub("", value) for key, value in attributes.items()}
    ElementTree.SubElement(parent, name, values).text = _NO_XML.sub("", text) or None
