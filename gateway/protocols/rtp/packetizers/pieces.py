"""Cuts a frame into pieces that fill packets of one length."""


def pieces(frame: bytes, limit: int, header: int, first_header: int) -> list[memoryview]:
    """Returns as few pieces as possible, of equal length with their headers. The last may be shorter.

    limit: bytes of a packet's payload. header: bytes before each piece. first_header: bytes before the first.
    """
    additional = first_header - header
    total = len(frame) + additional
    count = -(-total // (limit - header))
    step = -(-total // max(count, 1))
    view = memoryview(frame)
    return [view[max(at - additional, 0) : at - additional + step] for at in range(0, total, step)] if frame else []
