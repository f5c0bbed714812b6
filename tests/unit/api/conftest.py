"""Passwords are hashed quickly: `tests/unit/lib/test_passwords.py` judges the hash itself."""

from collections.abc import Iterator

import pytest

from gateway.lib import passwords


@pytest.fixture(scope="package", autouse=True)
def quick_passwords() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_N", 1 << 8)
        yield
