"""Decodes captions that are not in Unicode: in a given character set, or in the usual one of their language."""

import codecs
import re
from typing import Final

from gateway.media.errors import InvalidData

_MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# Python's names of the encodings of texts. Others, such as idna, are no files' encodings.
_KNOWN: Final = re.compile(r"utf-(8|16|32)|ascii|cp|iso8859|koi8|gb|hz|big5|shift_jis|euc_|iso2022_|mac-|tis-620|ptcp")
# What programs on Windows wrote before Unicode, by the first subtag of a language, or the first two.
_OF_LANGUAGE: Final = {
    language: charset
    for charset, languages in {
        "cp1250": "bs cs hr hu pl ro sk sl sq", "cp1251": "be bg kk ky mk mn ru sr tg uk", "cp1253": "el",
        "cp1254": "az tr", "cp1255": "he iw yi", "cp1256": "ar fa ur", "cp1257": "et lt lv", "cp1258": "vi",
        "cp874": "th", "cp932": "ja", "cp949": "ko", "gb18030": "zh", "big5hkscs": "zh-hant zh-tw zh-hk zh-mo",
    }.items()
    for language in languages.split()
}  # fmt: skip
_WESTERN: Final = "cp1252"  # Latin-1 with the quotation marks of Windows
# What texts in a guessed character set do not have, if the guess is right.
_UNLIKELY: Final = {
    _WESTERN: re.compile(r"[^\W\d_A-Za-z]{5}"),  # no word of a western language has so many marked letters
    "cp932": re.compile(r"[\ue000-\uf8ff]"),  # characters of users: as such, cp932 reads EUC-JP
}


def is_charset(name: str) -> bool:
    """Whether this is the name of a character set, such as `windows-1251`."""
    try:
        return len(name) < 32 and bool(_KNOWN.match(codecs.lookup(name).name))
    except (LookupError, ValueError):
        return False


def decode_text(data: bytes, language: str = "", charset: str = "") -> str:
    """Returns a text. charset: "": Unicode, or the usual character set of the language. Raises InvalidData."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    subtags = language.lower().split("-")
    guess = _OF_LANGUAGE.get("-".join(subtags[:2])) or _OF_LANGUAGE.get(subtags[0], _WESTERN)
    for encoding in (charset,) if charset else ("utf-8", guess):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        unlikely = None if charset else _UNLIKELY.get(encoding)
        if unlikely is None or not unlikely.search(text):
            return text
    raise InvalidData(f"the text is not in {charset or 'Unicode: give its `charset`, such as windows-1251'}")
