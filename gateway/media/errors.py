"""What the parsers of media bits and containers raise."""


class InvalidData(ValueError):
    """Bytes that do not follow their format's specification; the message says what and where."""


class UnsupportedCodec(InvalidData):
    """A codec, or a form of it, that this container cannot carry; the message names both."""
