"""The character sets of CEA-608 and CEA-708."""

from typing import Final


def _ascii(changed: dict[int, str]) -> tuple[str, ...]:
    return tuple(changed.get(code, chr(code)) if code >= 0x20 else "" for code in range(0x80))


# 47 CFR §15.119, CEA-608. Each is indexed by its code; the tables of two-byte codes begin with 0x20 or 0x30.
STANDARD_608: Final = _ascii(
    {0x27: "’", 0x2A: "á", 0x5C: "é", 0x5E: "í", 0x5F: "ó", 0x60: "ú"}
    | {0x7B: "ç", 0x7C: "÷", 0x7D: "Ñ", 0x7E: "ñ", 0x7F: "█"}
)
SPECIAL_608: Final = "®°½¿™¢£♪à èâêîôû"
SPANISH_FRENCH_608: Final = "ÁÉÓÚÜü‘¡*'—©℠•“”ÀÂÇÈÊËëÎÏïÔÙùÛ«»"
PORTUGUESE_GERMAN_608: Final = "ÃãÍÌìÒòÕõ{}\\^_|~ÄäÖöß¥¤│ÅåØø┌┐└┘"

# CTA-708-E §7.1. G1 is Latin-1. What a decoder does not know is an underscore.
G0_708: Final = _ascii({0x7F: "♪"})
G2_708: Final = {0xA0: "[CC]"} | dict(
    zip(b" !%*,0123459:<=?vwxyz{|}~\x7f", " \xa0…ŠŒ█‘’“”•™šœ℠Ÿ⅛⅜⅝⅞│┐└─┘┌", strict=True)
)
UNKNOWN: Final = "_"
