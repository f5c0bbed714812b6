"""A dict with a limit."""

from gateway.lib.bounded_dict import BoundedDict


def test_the_oldest_entry_goes_first():
    cache: BoundedDict[str, int] = BoundedDict(2)
    cache["a"], cache["b"], cache["c"] = 1, 2, 3
    assert list(cache.items()) == [("b", 2), ("c", 3)]


def test_an_entry_that_is_set_again_is_the_latest():
    cache: BoundedDict[str, int] = BoundedDict(2)
    cache["a"], cache["b"], cache["a"], cache["c"] = 1, 2, 3, 4
    assert list(cache.items()) == [("a", 3), ("c", 4)]


def test_default_values_count_too():
    cache: BoundedDict[str, list[int]] = BoundedDict(2)
    for key in "abc":
        cache.setdefault(key, []).append(1)
    assert list(cache) == ["b", "c"]
