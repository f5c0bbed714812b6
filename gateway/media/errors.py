"""Errors that the parsers of codec data and containers raise."""


class InvalidData(ValueError):
    """Bytes that do not follow the specification of their format. The message names the fault and its position."""


class UnsupportedCodec(InvalidData):
    """A codec, or a profile of it, that this container cannot carry. The message names the codec or profile."""
