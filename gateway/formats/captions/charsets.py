"""Decodes captions that are not in Unicode: in a given character set, or in the usual one of their language."""

import codecs
import re
from typing import Final

from gateway.media.errors import InvalidData

_MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_:-]{1,31}", re.ASCII)
# Python's names of the encodings of texts. Others, such as idna, are no files' encodings.
_KNOWN: Final = re.compile(
    r"(utf-(8|16|32)|ascii|cp|iso8859|koi8|gb|hz|big5|shift_jis|euc_|iso2022_|mac-|tis-620|ptcp).*"
)
# What programs on Windows wrote before Unicode, by the first subtag of a language.
_OF_LANGUAGE: Final = {
    language: charset
    for charset, languages in {
        "cp1250": "bs cs hr hu pl ro sk sl sq", "cp1251": "be bg kk ky mk mn ru sr tg uk", "cp1253": "el",
        "cp1254": "az tr", "cp1255": "he iw yi", "cp1256": "ar fa ur", "cp1257": "et lt lv", "cp1258": "vi",
        "cp874": "th", "cp932": "ja", "cp949": "ko", "gb18030": "zh",
    }.items()
    for language in languages.split()
}  # fmt: skip
_TRADITIONAL: Final = re.compile(r"zh-(.*-)?(hant|tw|hk|mo)\b", re.IGNORECASE)
_WESTERN: Final = "cp1252"  # Latin-1 with the quotation marks of Windows
_OTHER_ALPHABET: Final = re.compile(r"[^\W\d_A-Za-z]{5}")  # no word of a western language has so many marked letters


def is_charset(name: str) -> bool:
    """Whether this is the name of a character set, such as `windows-1251`."""
    try:
        return bool(_NAME.fullmatch(name)) and bool(_KNOWN.fullmatch(codecs.lookup(name).name))
    except LookupError:
        return False


def decode_text(data: bytes, language: str = "", charset: str = "") -> str:
    """Returns a text. charset: "": Unicode, or the usual character set of the language. Raises InvalidData."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    guess = _OF_LANGUAGE.get(language.lower().partition("-")[0], _WESTERN)
    guess = "big5hkscs" if _TRADITIONAL.match(language) else guess
    for encoding in (charset,) if charset else ("utf-8", guess):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if charset or encoding != _WESTERN or not _OTHER_ALPHABET.search(text):
            return text
    raise InvalidData(
        f"the text is not in {charset}"
        if charset
        else "the text is not Unicode: give its `charset`, such as windows-1251"
    )
