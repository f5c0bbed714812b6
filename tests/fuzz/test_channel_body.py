"""API bodies with valid names and any values, of which more pass the first check than random bytes."""

import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.channels.fields import FIELDS
from tests.fuzz.fuzz_channel_body import fuzz, judge

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["true", "2030-01-01", "rtmp://a/b/********", "1e9", ""])
)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=10
)
names = st.sampled_from([*FIELDS, "outdate", "id", "key", "TimeStamp", "pushDNS", "pullDNS", "playUrls"]) | st.text()
dates = st.sampled_from(["2030-01-01", 0, "1893456000", "2030/1/1", "9999-12-31T23:59:59+00:00"])


@given(st.dictionaries(names, anything, max_size=8), st.none() | dates)
def test_bodies_with_valid_names_and_any_values_give_documented_results(body, outdate):
    judge(body if outdate is None else body | {"outdate": outdate})


@given(st.binary() | anything.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_documented_results(data):
    fuzz(data)
