"""Sound of codecs that no track has: a worker decodes it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ForeignSound:
    """Sound of a codec that no track can have. codec: libav's name of the decoder. rate: Hz."""

    codec: str
    rate: int
    channels: int
