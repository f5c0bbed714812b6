"""Channels: defaults of a new channel, effects of a change, and reading of old items."""

import json

import pytest

from gateway.channels import relay_urls
from gateway.channels.channel import Channel, changes, create_item
from gateway.channels.expiry import parse_outdate
from gateway.channels.stream_key import Algorithm, SigningSecrets, Verdict, sign
from gateway.ports.errors import InvalidField, TooLarge

SECRETS = SigningSecrets("unit-secret")
NOW = 1_700_000_000.25
LIMIT = 64_000
# The body of the original guide's curl command.
SEED = json.loads(
    """{"isFlv":true, "isHls":false, "isVideo":true, "isImage":false, "isMotion":false, "isOnDemand":false,
    "isCMAF":false,
    "video_time":"60", "image_time":"30", "hls_time":"2", "hls_list_size":"5", "outdate":"2022-12-09"}"""
)


def new(**fields):
    return create_item(SEED | fields, NOW, SECRETS, LIMIT)


def stored(**fields):
    return Channel(new(**fields))


class TestCreate:
    def test_a_new_channel_is_stored_with_id_key_and_timestamp(self):
        item = new()
        assert {name: item[name] for name in SEED} == SEED
        assert len(item["id"]) == 36
        assert item["TimeStamp"] == 1_700_000_000 + 3 * 86400
        assert item["key"] == SECRETS.sign(item["id"], 1670544000)

    def test_the_gateway_sets_id_key_and_timestamp_itself(self):
        item = new(id="mine", key="1-2", TimeStamp=5)
        assert item["id"] != "mine"
        assert Channel(item).expires == 1670544000
        assert item["TimeStamp"] == 1_700_259_200

    def test_the_md5_algorithm_makes_keys_of_the_original_system(self):
        item = create_item(SEED, NOW, SigningSecrets("unit-secret", algorithm=Algorithm.MD5), LIMIT)
        assert item["key"] == sign(item["id"], 1670544000, "unit-secret", Algorithm.MD5)

    def test_missing_fields_of_a_new_channel_get_the_console_defaults(self):
        channel = Channel(create_item({"outdate": "2030-01-01"}, NOW, SECRETS, LIMIT))
        assert (channel.flag("isFlv"), channel.flag("isHls"), channel.hls_time, channel.hls_list_size) == (
            True,
            False,
            2,
            5,
        )
        assert [channel.number(n) for n in ("video_time", "image_time", "ondemand_time", "motion_diff")] == [
            60,
            30,
            60,
            30,
        ]

    def test_unknown_fields_are_stored_unchanged(self):
        odd = {"myOwnField": {"deep": [1, 2.5, None, "ü", {"x": True}]}, "another": "kept"}
        assert {name: new(**odd)[name] for name in odd} == odd

    def test_computed_fields_in_a_request_are_not_stored(self):
        assert (
            not {"pushUrl", "playUrls", "expired", "obsKey", "obsServer"}
            & new(pushUrl="x", playUrls={}, expired=True, obsKey="", obsServer="").keys()
        )

    def test_outdate_is_required(self):
        with pytest.raises(InvalidField) as refused:
            create_item({"isFlv": True}, NOW, SECRETS, LIMIT)
        assert refused.value.field == "outdate"

    def test_an_item_above_the_size_limit_is_refused(self):
        with pytest.raises(TooLarge):
            new(note="x" * LIMIT)
        assert create_item(SEED | {"note": "x" * LIMIT}, NOW, SECRETS, 0)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("isFlv", "yes"),
            ("isFlv", 1),
            ("isFlv", None),
            ("isKvs", []),
            ("hls_time", 0),
            ("hls_time", 61),
            ("hls_time", "two"),
            ("hls_time", ""),
            ("hls_time", True),
            ("hls_time", float("nan")),
            ("hls_time", float("inf")),
            ("hls_time", 10**400),
            ("hls_time", "٢"),
            ("hls_time", [2]),
            ("hls_list_size", 2.5),
            ("hls_list_size", "-1"),
            ("video_time", "1e3"),
            ("motion_percent", 101),
            ("videoname", 5),
            ("videoname", "x" * 257),
            ("videoname", "half \ud800"),
            ("WaterMarkFontColor", "red;rm"),
            ("ImageURL", "file:///etc/passwd"),
            ("codec", "libx266"),
            ("masterSize", "huge"),
            ("logLevel", "loud"),
            ("logLevel", 3),
            ("playAuth", "maybe"),
            ("refererAllow", ["http://example.com/"]),
            ("refererAllow", {"a": 1}),
            ("refererAllow", ["a.b"] * 101),
            ("relayURL", "http://example.com/app/key"),
            ("relayURL", "rtmp:///nohost"),
            ("relayURL", ["rtmp://ok/app/key", 5]),
            ("relayURL", "rtmp://h/a b"),
            ("relayURL", "rtmp://h:99999/a"),
            ("relayURL", ",".join(["rtmp://h/a/k"] * 17)),
            ("relayURL", "rtmp://h/app/********"),
            ("relayURL", "srt://h"),
            ("relayURL", "srt://h:9000?mode=listener"),
            ("relayURL", ["srt://h:9000?passphrase=short"]),
            ("kvsStream", "a b"),
            ("srtPassphrase", "too short"),
            ("srtPassphrase", "x" * 80),
            ("srtPassphrase", "with & in it"),
            ("srtPassphrase", "with é in it"),
            ("outdate", "ever"),
            ("other", float("nan")),
            ("other", 10**38),
            ("other", 1e300),
            ("other", {"": 1}),
            ("other", {"a": ["\ud800"]}),
            ("", "no name"),
            ("n" * 256, "long name"),
        ],
    )
    def test_a_bad_value_is_refused_with_the_fields_name(self, field, value):
        with pytest.raises(InvalidField) as refused:
            new(**{field: value})
        assert field.startswith(refused.value.field)
        assert str(refused.value).encode()

    @pytest.mark.parametrize(
        ("field", "value", "expected"),
        [
            ("maxKbps", -1, "expected a number from 0 to 1000000"),
            ("hls_list_size", 2.5, "expected a whole number from 1 to 100"),
        ],
    )
    def test_a_refused_number_names_its_bounds_in_digits(self, field, value, expected):
        with pytest.raises(InvalidField) as refused:
            new(**{field: value})
        assert refused.value.message == expected

    @pytest.mark.parametrize(
        ("parameter", "reason"),
        [("passphrase=short", "10 to 79"), ("latency=200000", "milliseconds"), ("steamid=a", "steamid is not a field")],
    )
    def test_a_target_of_srt_is_refused_with_the_reason(self, parameter, reason):
        with pytest.raises(InvalidField, match=reason):
            new(relayURL=["rtmp://a/b/c", f"srt://h:9000?{parameter}"])

    def test_values_nested_too_deeply_are_refused(self):
        deep: object = 1
        for _ in range(40):
            deep = [deep]
        with pytest.raises(InvalidField, match="levels"):
            new(other=deep)

    def test_too_many_fields_are_refused(self):
        with pytest.raises(InvalidField, match="at most 200"):
            new(**{f"f{i}": 1 for i in range(300)})

    @pytest.mark.parametrize(
        "value",
        [
            "",
            [],
            "rtmp://a/b/c",
            "rtmps://u:p@a:443/b/c?x=y,rtmp://[::1]/d",
            ["rtmp://a/b/c"],
            "srt://h:9000?mode=caller&pkt_size=1316&transtype=live",
            "arn:aws:ivs:us-east-1:123456789012:channel/abcDEF",
            ["moq://relay.example:4443/anon?jwt=x#show", "https://relay.example/anon"],
        ],
    )
    def test_relay_urls_may_be_a_text_or_a_list(self, value):
        assert new(relayURL=value)["relayURL"] == value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2022-12-09", 1670544000),
        ("2030-01-01", 1893456000),
        ("2030/1/1", 1893456000),
        ("2030/01/01", 1893456000),
        ("2030-01-01T00:00:00Z", 1893456000),
        ("2030-01-01T08:00:00+08:00", 1893456000),
        ("2029-12-31T19:00:00.000-0500", 1893456000),
        ("2030-01-01T00:00", 1893456000),
        ("2030/1/1 00:00:00", 1893456000),
        (1893456000, 1893456000),
        (1893456000.9, 1893456000),
        ("1893456000", 1893456000),
        (" 2030-01-01 ", 1893456000),
        (0, 0),
        ("9999-12-31T23:59:59Z", 253402300799),
        ("never", 253402214400),
        ("2040-01-01", 2208988800),  # beyond 32 bits
    ],
)
def test_an_expiry_is_parsed_in_every_format_and_time_zone(text, seconds, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    assert parse_outdate(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "soon",
        True,
        [],
        {},
        "2030-13-01",
        "2030-02-30",
        "2030-1",
        "2030-01/01",
        "30-01-01",
        "2030-01-01T25:00",
        -1,
        "-1",
        253402300800,
        "2030-01-01T00:00:00+99:99",
        "1893456000000",
        1893456000000,
        float("nan"),
        float("inf"),
        10**400,
        "２０３０-01-01",
        "1960-01-01",
        "9" * 10000,
    ],
)
def test_an_invalid_expiry_is_refused(value):
    with pytest.raises(InvalidField) as refused:
        parse_outdate(value)
    assert refused.value.field == "outdate"


class TestChanges:
    def test_never_is_stored_as_a_date_that_old_clients_understand(self):
        channel = stored(outdate="never")
        assert (channel.item["outdate"], channel.expires) == ("9999-12-31", 253402214400)
        assert changes(channel, {"outdate": "never"}, SECRETS, LIMIT) == {}
        changed = changes(stored(), {"outdate": "never"}, SECRETS, LIMIT)
        assert changed["outdate"] == "9999-12-31" and changed["key"].startswith("253402214400-")

    def test_only_changed_fields_are_set(self):
        channel = stored(videoname="a")
        assert changes(channel, {"videoname": "b", "isFlv": True, "hls_time": "2"}, SECRETS, LIMIT) == {
            "videoname": "b"
        }

    def test_a_new_expiry_makes_a_new_key_and_revokes_the_old(self):
        channel = stored()
        changed = changes(channel, {"outdate": "2031-01-01"}, SECRETS, LIMIT)
        assert changed == {"outdate": "2031-01-01", "key": SECRETS.sign(channel.id, 1924992000)}
        assert SECRETS.verify_push(channel.id, changed["key"], channel.key, 0) is Verdict.REVOKED

    def test_the_same_expiry_again_keeps_the_key(self):
        channel = stored()
        assert changes(channel, {"outdate": channel.item["outdate"]}, SECRETS, LIMIT) == {}

    def test_the_same_expiry_in_another_format_keeps_the_key(self):
        channel = stored(outdate="2030-01-01")
        assert changes(channel, {"outdate": "2030/1/1"}, SigningSecrets("new", previous="unit-secret"), LIMIT) == {
            "outdate": "2030/1/1"
        }

    def test_an_invalid_key_is_replaced_when_the_expiry_is_set_again(self):
        channel = stored(outdate="2030-01-01")
        assert "key" in changes(channel, {"outdate": "2030/1/1"}, SigningSecrets("new"), LIMIT)

    def test_sending_an_unchanged_answer_back_changes_nothing(self):
        channel = stored(relayURL="rtmp://h/app/secret")
        sent = dict(channel.item) | {
            "relayURL": "rtmp://h/app/********",
            "pushUrl": "x",
            "playUrls": {},
            "expired": True,
        }
        assert changes(channel, sent, SECRETS, LIMIT) == {}

    def test_invalid_stored_values_are_tolerated_but_new_ones_are_refused(self):
        channel = Channel({"id": "a", "key": "", "hls_time": "", "outdate": "gone", "WaterMarkFontSize": "test"})
        assert changes(channel, dict(channel.item) | {"videoname": "n"}, SECRETS, LIMIT) == {"videoname": "n"}
        with pytest.raises(InvalidField, match="hls_time"):
            changes(channel, {"hls_time": "x"}, SECRETS, LIMIT)

    def test_a_client_cannot_change_id_key_or_timestamp(self):
        assert changes(stored(), {"id": "x", "key": "1-2", "TimeStamp": 1}, SECRETS, LIMIT) == {}

    def test_a_change_from_true_to_1_is_stored(self):
        assert changes(stored(flag=True), {"flag": 1}, SECRETS, LIMIT) == {"flag": 1}

    def test_the_size_limit_applies_to_the_whole_changed_item(self):
        with pytest.raises(TooLarge):
            changes(stored(note="x" * 60_000), {"more": "y" * 5_000}, SECRETS, LIMIT)


class TestMaskedRelays:
    def test_the_query_of_an_srt_target_is_masked_and_restored(self):
        target = "srt://h:9000?streamid=publish:a?sign=b&passphrase=0123456789"
        channel = stored(relayURL=["rtmp://a/app/one", target])
        masked = relay_urls.masked(channel.item["relayURL"])
        assert masked == ["rtmp://a/app/********", "srt://h:9000?********"]
        changed = changes(channel, {"relayURL": [masked[1], "srt://h:9001"]}, SECRETS, LIMIT)
        assert changed == {"relayURL": [target, "srt://h:9001"]}

    def test_a_key_before_a_slash_is_masked_and_restored(self):
        channel = stored(relayURL=["rtmp://a/app/one/", "moq://b/room/two//"])
        masked = relay_urls.masked(channel.item["relayURL"])
        assert masked == ["rtmp://a/app/********", "moq://b/room/********"]
        changed = changes(channel, {"relayURL": [*masked, "rtmp://c/d/e"]}, SECRETS, LIMIT)
        assert changed == {"relayURL": ["rtmp://a/app/one/", "moq://b/room/two//", "rtmp://c/d/e"]}

    def test_one_relay_key_can_change_while_another_stays_masked(self):
        channel = stored(relayURL=["rtmp://a/app/one", "rtmp://b/app/two"])
        changed = changes(channel, {"relayURL": ["rtmp://a/app/********", "rtmp://b/app/new"]}, SECRETS, LIMIT)
        assert changed == {"relayURL": ["rtmp://a/app/one", "rtmp://b/app/new"]}

    def test_masked_keys_of_one_server_are_restored_in_order(self):
        channel = stored(relayURL="rtmp://a/app/one,rtmp://a/app/two")
        changed = changes(
            channel, {"relayURL": "rtmp://a/app/********,rtmp://a/app/********,rtmp://c/d/e"}, SECRETS, LIMIT
        )
        assert changed == {"relayURL": "rtmp://a/app/one,rtmp://a/app/two,rtmp://c/d/e"}

    def test_a_relay_target_can_be_named_by_its_position(self):
        channel = stored(relayURL="rtmp://a/app/one,rtmp://a/app/two")
        assert changes(channel, {"relayURL": [1, "rtmp://c/d/e"]}, SECRETS, LIMIT) == {
            "relayURL": ["rtmp://a/app/two", "rtmp://c/d/e"]
        }
        for wrong in (2, -1, True):
            with pytest.raises(InvalidField):
                changes(channel, {"relayURL": [wrong, 0]}, SECRETS, LIMIT)

    def test_a_stopped_relay_target_stays_stopped_when_the_list_changes(self):
        channel = stored(relayURL=["rtmp://a/app/one", "rtmp://b/app/two", "rtmp://c/app/three"], relayOff=[1, 2])
        assert channel.relay_targets == ("rtmp://a/app/one",)
        changed = changes(channel, {"relayURL": ["rtmp://n/e/w", 2, 0]}, SECRETS, LIMIT)
        assert changed["relayOff"] == [1]
        assert Channel({**channel.item, **changed}).relay_targets == ("rtmp://n/e/w", "rtmp://a/app/one")
        for wrong in ("1", [-1], [16], [True], 1):
            with pytest.raises(InvalidField):
                changes(channel, {"relayOff": wrong}, SECRETS, LIMIT)

    def test_a_mask_without_a_stored_relay_is_refused(self):
        with pytest.raises(InvalidField, match="masked"):
            changes(stored(relayURL="rtmp://a/app/one"), {"relayURL": "rtmp://b/app/********"}, SECRETS, LIMIT)


class TestReading:
    old = Channel(
        {
            "id": "0f0e0d0c-0000-4000-8000-00000000aaaa",
            "isFlv": "true",
            "isHls": "false",
            "hls_time": 2,
            "hls_list_size": "8",
            "outdate": "2035/11/29",
        }
    )

    def test_booleans_and_numbers_may_be_stored_as_text(self):
        assert (self.old.flag("isFlv"), self.old.flag("isHls"), self.old.hls_time, self.old.hls_list_size) == (
            True,
            False,
            2,
            8,
        )

    def test_missing_fields_of_an_old_item_get_the_scheduler_defaults(self):
        channel = Channel({"id": "a"})
        assert (channel.flag("isFlv"), channel.hls_time, channel.hls_list_size, channel.codec) == (
            False,
            2,
            6,
            "libx264",
        )
        assert [channel.number(n) for n in ("video_time", "image_time", "motion_duration", "ImageWidth")] == [
            30,
            10,
            5,
            100,
        ]
        assert (channel.key, channel.expires, channel.log_level, channel.play_auth, channel.referer_allow) == (
            "",
            0,
            None,
            None,
            None,
        )
        assert (channel.relay_targets, channel.renditions, channel.name) == ((), (), "")

    def test_without_a_key_a_channel_expires_at_its_outdate(self):
        assert self.old.expires == 2079907200
        assert self.old.expired(2079907200.9) is False
        assert self.old.expired(2079907201) is True

    @pytest.mark.parametrize("value", ["maybe", "", 7, None, [], {}, 10**400])
    def test_invalid_stored_values_are_read_as_defaults(self, value):
        channel = Channel(
            {
                "id": "a",
                "isFlv": value,
                "hls_time": value if value != 7 else 7000,
                "codec": value,
                "logLevel": value,
                "key": value,
            }
        )
        assert (channel.flag("isFlv"), channel.hls_time, channel.codec, channel.log_level) == (
            False,
            2,
            "libx264",
            None,
        )
        assert isinstance(channel.key, str)

    def test_log_levels_of_the_original_system_are_mapped(self):
        assert [Channel({"id": "a", "logLevel": v}).log_level for v in ("verbose", "trace", "quiet", "warning")] == [
            "info",
            "debug",
            "error",
            "warning",
        ]

    def test_renditions_are_off_without_their_flag_and_relays_are_a_list(self):
        item = {"id": "a", "ld": "true", "hd": True, "relayURL": "rtmp://a/b/c, rtmp://d/e/f"}
        assert Channel(item).renditions == ()
        on = Channel(item | {"isCodec": "true", "isRelay": "true"})
        assert (on.renditions, on.relay_targets) == (("ld", "hd"), ("rtmp://a/b/c", "rtmp://d/e/f"))

    def test_allowed_referers_are_lower_case_hosts(self):
        assert stored(refererAllow=["Example.COM", "*.example.org:8443"]).referer_allow == (
            "example.com",
            "*.example.org:8443",
        )
        assert stored(refererAllow=[]).referer_allow == ()
        assert stored(refererAllow=None).referer_allow is None


@pytest.mark.parametrize("name", ["videoname", "key", "x"])
def test_a_channel_with_a_text_that_is_no_unicode_can_be_changed(name):
    """Earlier versions accepted such texts."""
    assert changes(Channel({"id": "c1", name: "\ud800"}), {"slug": "stage"}, SECRETS, LIMIT)["slug"] == "stage"
