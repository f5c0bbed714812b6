"""Texts that every store and every page can carry: Unicode without NUL and without halves of surrogate pairs.

PostgreSQL cannot store NUL, and UTF-8 cannot express a lone surrogate. JSON allows both.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

STORABLE: Final = "valid Unicode text without NUL"  # what errors expect
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Whether a text has no NUL and no lone surrogate."""
    return _UNSTORABLE.search(text) is None


def storable(text: str) -> str:
    """Returns the text with U+FFFD in place of NUL and of lone surrogates."""
    return _UNSTORABLE.sub("\ufffd", text)


def has_unstorable(value: Any) -> bool:
    """Whether a JSON value has such a text, also as a name."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if not is_storable(one):
                return True
        elif isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            waiting += one
    return False
