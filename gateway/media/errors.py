"""Errors that the parsers of codec data and containers raise."""


class InvalidData(ValueError):
    """Bytes that do not follow their format's specification. The message names the fault and its place."""


class UnsupportedCodec(InvalidData):
    """A codec, or a form of it, that this container cannot carry. The message names both."""
