"""Things that run at the same time have places."""

import pytest

from gateway.lib.places import Places


def test_one_more_than_the_places_is_refused_until_another_one_ends() -> None:
    places = Places(1, lambda: OverflowError("full"))
    with places:
        with pytest.raises(OverflowError, match="full"), places:
            pass
        assert places.free == 0
    with pytest.raises(ValueError, match="its own"), places:
        raise ValueError("its own")
    with places:
        assert places.free == 0
