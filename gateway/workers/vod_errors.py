"""The error for media that cannot be converted to a VOD."""


class UnusableMedia(Exception):
    """A media file cannot be converted. The message is one line for the user who uploaded it."""
