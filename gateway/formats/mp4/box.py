"""Writes boxes: a size, a type, a payload (ISO/IEC 14496-12 §4.2)."""


def box(kind: bytes, *parts: bytes) -> bytes:
    """Returns a box of type `kind` (four bytes) that contains `parts`."""
    payload = b"".join(parts)
    return (len(payload) + 8).to_bytes(4, "big") + kind + payload


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """Returns a FullBox: version and flags before `parts`."""
    return box(kind, (version << 24 | flags).to_bytes(4, "big"), *parts)
