"""Settings: layers, and a one-line error for each mistake."""

import functools
import ipaddress
import json
import os
import re
import tomllib
from pathlib import Path
from urllib.parse import quote

import pytest

from gateway.adapters.invitations import as_toml
from gateway.lib.egress import Egress
from gateway.settings import Settings, SettingsError, config_folder, load, merge, missing_files, short_secrets
from gateway.settings.layers import OPTIONS, MergedOptions, is_secret, shown, variable

DEFAULTS = config_folder() / "default.toml"


def refused(**how) -> str:
    """The error line of refused settings."""
    with pytest.raises(SettingsError) as e:
        load(**{"environ": {}} | how)
    (line,) = e.value.problems
    assert "\n" not in line
    return line


def toml(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "own.toml"
    file.write_text(text)
    return file


def test_the_defaults_equal_the_documented_ones():
    s = load(environ={})
    assert (s.rtmp.host, s.rtmp.port, s.http.port, s.ws.port, s.admin.host, s.admin.port) == (
        "0.0.0.0",
        1935,
        8080,
        8081,
        "127.0.0.1",
        8000,
    )
    assert (s.rtmps.port, s.https.port, s.wss.port, s.has_tls) == (1938, 8443, 8444, False)
    assert (s.stream.takeover_after, s.stream.linger, s.stream.wait_for_publisher, s.cmaf.part) == (2, 10, 20, 0.5)
    assert (s.serve.drain, s.serve.workers, s.playback.sign_ttl, s.signing.algorithm) == (30, 1, 3600, "hmac-sha256")
    assert (s.channels, s.objects, s.registry) == ("sqlite:///var/millrace.db", "file:///var/media", "")
    assert (s.limits.publishers_per_address, s.limits.playback_per_address, s.limits.refusals_per_minute) == (
        256,
        4096,
        30,
    )


def test_the_default_file_contains_exactly_the_existing_options():
    written = tomllib.loads(DEFAULTS.read_text())
    names = {
        f"{k}.{o}" if isinstance(v, dict) and k != "data" else k
        for k, v in written.items()
        for o in (v if isinstance(v, dict) else [""])
    }
    assert names == OPTIONS.keys()


def test_every_option_has_an_explaining_comment():
    """A comment precedes each option or its group."""
    explained = False
    for line in DEFAULTS.read_text().splitlines():
        if line.startswith("#"):
            explained = True
        elif not line.strip() or line.startswith("["):
            explained = explained and line.startswith("[")
        else:
            assert explained, line


def test_settings_models_have_no_own_defaults():
    assert [name for name, info in OPTIONS.items() if not info.is_required()] == []
    assert all(field.is_required() for field in Settings.model_fields.values())


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_can_be_set_by_its_variable(name):
    """Sets each option to the text form of its documented default."""
    value = defaults().value(name)
    text = (
        ",".join(value)
        if isinstance(value, list)
        else ""
        if value == {}
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
    merged = merge(environ={variable(name): text})
    assert merged.values[name].source == variable(name)
    assert merged.settings() == documented()


@functools.cache
def defaults() -> MergedOptions:
    return merge(environ={})


@functools.cache
def documented() -> Settings:
    return load(environ={})


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load(environ={}).rtmp.port = 1  # type: ignore[misc]


class TestLayers:
    def test_later_layers_take_precedence_and_values_know_their_source(self, tmp_path):
        (tmp_path / "default.toml").write_text(DEFAULTS.read_text())
        (tmp_path / "lab.toml").write_text("[rtmp]\nport = 1\n[http]\nport = 1\n[ws]\nport = 1\n[admin]\nport = 1\n")
        own = toml(tmp_path, "[http]\nport = 2\n[ws]\nport = 2\n[admin]\nport = 2\n")
        environ = {"MILLRACE_PROFILE": "lab", "MILLRACE_WS__PORT": "3", "MILLRACE_ADMIN__PORT": "3", "HOME": "/"}
        merged = merge(config=own, environ=environ, overrides=["admin.port=4"], folder=tmp_path)
        s = merged.settings()
        assert (s.rtmp.port, s.http.port, s.ws.port, s.admin.port, s.rtmps.port) == (1, 2, 3, 4, 1938)
        sources = [merged.values[f"{n}.port"].source for n in ("rtmp", "http", "ws", "admin", "rtmps")]
        assert sources == ["profile lab", str(own), "MILLRACE_WS__PORT", "command line", "default.toml"]

    def test_the_profile_of_the_command_line_overrides_the_variable(self):
        merged = merge(profile="container", environ={"MILLRACE_PROFILE": "nonsense"})
        assert merged.settings().admin.host == "0.0.0.0"

    def test_a_variable_sets_the_configuration_file(self, tmp_path):
        assert load(environ={"MILLRACE_CONFIG": str(toml(tmp_path, "[log]\nlevel='debug'"))}).log.level == "debug"

    def test_every_profile_can_be_loaded(self):
        for file in config_folder().glob("*.toml"):
            if file.stem not in ("default", "ladders"):
                load(profile=file.stem, environ={})

    def test_a_secret_can_be_read_from_a_file(self, tmp_path):
        file = tmp_path / "secret"
        file.write_text("from the secret file \n")
        environ = {"MILLRACE_SIGNING__SECRET_FILE": str(file)}
        assert load(environ=environ).signing.secret.get_secret_value() == "from the secret file "
        assert merge(environ=environ).values["signing.secret"].source == f"file {file}"
        assert (
            load(environ=environ | {"MILLRACE_SIGNING__SECRET": "from the variable"}).signing.secret.get_secret_value()
            == "from the variable"
        )

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", ""])
    def test_line_ends_are_no_part_of_a_value(self, tmp_path, end):
        file, names = tmp_path / "secret", [name for name in OPTIONS if is_secret(name) and name != "database"]
        file.write_bytes(f"0123456789abcdef {end}".encode())
        for given in (
            {variable(n): file.read_bytes().decode() for n in names},
            {f"{variable(n)}_FILE": file for n in names},
        ):
            settings = merge(
                environ={**{k: str(v) for k, v in given.items()}, "MILLRACE_HOOKS__URL": f"https://a/{end}"}
            )
            assert {settings.values[name].value for name in names} == {"0123456789abcdef "}
            assert settings.values["hooks.url"].value == "https://a/"

    def test_a_byte_order_mark_is_no_part_of_a_file(self, tmp_path):
        (tmp_path / "own.toml").write_bytes(b"\xef\xbb\xbf[rtmp]\r\nport = 1936\r\n")
        (tmp_path / "secret").write_bytes(b"\xef\xbb\xbfsecret of an editor\r\n")
        settings = load(
            config=tmp_path / "own.toml", environ={"MILLRACE_SIGNING__SECRET_FILE": str(tmp_path / "secret")}
        )
        assert settings.rtmp.port == 1936
        assert settings.signing.secret.get_secret_value() == "secret of an editor"

    def test_default_store_paths_follow_the_data_folder(self):
        s = load(environ={"MILLRACE_DATA": "/srv/x"})
        assert (s.data, s.channels, s.objects) == (
            Path("/srv/x"),
            "sqlite:////srv/x/millrace.db",
            "file:////srv/x/media",
        )

    def test_an_installed_package_uses_its_own_default_file(self, tmp_path):
        package = tmp_path / "site-packages" / "gateway"
        (package / "_config").mkdir(parents=True)
        (package.parent / "config").mkdir()  # somebody else's package
        (package.parent / "config" / "default.toml").touch()
        (package / "_config" / "default.toml").touch()
        assert config_folder(package) == package / "_config"
        (package / "_config" / "default.toml").unlink()
        with pytest.raises(SettingsError, match="incomplete"):
            config_folder(package)


class TestValues:
    def test_lists_in_variables_are_separated_by_commas(self):
        s = load(
            environ={"MILLRACE_RTMP__PROXY_FROM": "10.0.0.0/8, ::1", "MILLRACE_WS__ORIGINS": "https://a, https://b,"}
        )
        assert s.rtmp.proxy_from == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))
        assert s.ws.origins == ("https://a", "https://b")

    def test_folder_paths_may_start_with_a_tilde(self):
        environ = {"MILLRACE_VOD__SOURCES": "~/videos, /srv", "MILLRACE_DATA": "~/data"}
        s = load(environ=environ)
        assert s.vod.sources == (Path.home() / "videos", Path("/srv")) and s.data == Path.home() / "data"

    def test_lists_in_files_are_toml_lists(self, tmp_path):
        assert (
            load(config=toml(tmp_path, 'http.forwarded_from = ["192.0.2.1"]'), environ={})
            .http.forwarded_from[0]
            .num_addresses
            == 1
        )

    def test_public_keys_are_given_as_pairs_or_as_a_table(self, tmp_path):
        both = {"K1": Path("/a.pem"), "K2": Path("/b.pem")}
        assert load(environ={"MILLRACE_CLOUDFRONT__PUBLIC_KEYS": "K1=/a.pem, K2=/b.pem"}).cloudfront.public_keys == both
        file = toml(tmp_path, '[cloudfront.public_keys]\nK1 = "/a.pem"\nK2 = "/b.pem"')
        assert load(config=file, environ={}).cloudfront.public_keys == both

    def test_hosts_of_pages_are_compared_in_lower_case(self):
        text = "Example.com, *.Example.org:8443, [2001:DB8::1]:8080, *"
        hosts = ("example.com", "*.example.org:8443", "[2001:db8::1]:8080", "*")
        assert load(environ={"MILLRACE_PLAYBACK__REFERER_ALLOW": text}).playback.referer_allow == hosts

    @pytest.mark.parametrize(
        "origin", ["*", "null", "https://a.example", "HTTP://[::1]:8000/", "chrome-extension://ab"]
    )
    def test_origins_of_pages_that_may_push(self, origin):
        assert load(environ={"MILLRACE_WS__ORIGINS": origin}).ws.origins == (origin,)

    @pytest.mark.parametrize(
        ("host", "kept"), [("::", "::"), ("[::1]", "::1"), ("127.0.0.1", "127.0.0.1"), ("localhost", "localhost")]
    )
    def test_hosts_are_addresses_or_names(self, host, kept):
        assert load(environ={"MILLRACE_RTMP__HOST": host}).rtmp.host == kept

    @pytest.mark.parametrize(
        "entry",
        [
            "10.0.0.0/8",
            "::1",
            "[::1]",
            "relay.lan",
            "http://10.1.2.3/pics",
            "rtmps://10.1.2.3:1936/live",
            "udp://10.1.2.3:5000",
            "rtp://239.1.2.3:5004",
            "srt://10.1.2.3:9000",
            "rtsp://camera.lan",
            "smtp://10.1.2.3",
        ],
    )
    def test_entries_of_the_egress_policy(self, entry):
        assert Egress(load(environ={"MILLRACE_EGRESS__ALLOW": entry}).egress.allow)

    @pytest.mark.parametrize("engine", ["", "pocketsphinx", "sherpa-onnx:/srv/my model", "command:a --b 'c d'"])
    def test_engines_for_captions(self, engine):
        assert load(environ={"MILLRACE_CAPTIONS__ENGINE": engine}).captions.engine == engine

    def test_port_0_is_accepted_as_any_free_port(self):
        assert load(environ={"MILLRACE_RTMP__PORT": "0"}).rtmp.port == 0

    def test_secrets_are_not_in_the_repr(self):
        assert "hidden" not in repr(
            load(environ={"MILLRACE_ADMIN__TOKEN": "hidden" * 3, "MILLRACE_SIGNING__SECRET": "hidden" * 3})
        )


UNKNOWN = [
    ("MILLRACE_RTMP_PORT", "MILLRACE_RTMP__PORT"),
    ("MILLRACE_RTMP__PROT", "MILLRACE_RTMP__PORT"),
    ("MILLRACE_rtmp__port", "MILLRACE_RTMP__PORT"),
    ("MILLRACE_SIGNING__SECRETS", "MILLRACE_SIGNING__SECRET"),
    ("MILLRACE_CHANNEL", "MILLRACE_CHANNELS"),
    ("MILLRACE_PROFIL", "MILLRACE_PROFILE"),
    ("MILLRACE_HLS__ONDEMAND", "MILLRACE_HLS__ON_DEMAND"),
    ("MILLRACE_RTMP__PORT_FILE", "MILLRACE_RTMP__PORT"),
]


@pytest.mark.parametrize(("name", "near"), UNKNOWN)
def test_the_error_for_an_unknown_variable_suggests_the_nearest_name(name, near):
    assert refused(environ={name: "1"}) == f"unknown variable {name}; did you mean {near}?"


@pytest.mark.parametrize("service", ["MILLRACE", "MILLRACE_EDGE"])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_variables_of_a_service_in_kubernetes_are_no_options(service, protocol):
    port = f"{service}_PORT_1935_{protocol.upper()}"
    url = f"{protocol}://10.96.0.7:1935"
    environ = {
        f"{service}_SERVICE_HOST": "10.96.0.7",
        f"{service}_SERVICE_PORT": "1935",
        f"{service}_SERVICE_PORT_RTMP": "1935",
        f"{service}_PORT": url,
        port: url,
        f"{port}_PROTO": protocol,
        f"{port}_PORT": "1935",
        f"{port}_ADDR": "10.96.0.7",
    }
    assert merge(environ=environ).problems == []
    assert "unknown variable" in refused(environ={f"{service}_PORT": "1935"})


_ENGINES = "pocketsphinx, sherpa-onnx:<folder>, command:<program and arguments>, or empty"
BAD_VALUES = [
    ("captions.engine", "whisper", _ENGINES),
    ("captions.engine", "sherpa-onnx", _ENGINES),
    ("captions.engine", "sherpa-onnx:", _ENGINES),
    ("captions.engine", "pocketsphinx:en", _ENGINES),
    ("captions.engine", "command: ", _ENGINES),
    ("captions.engine", "command:a 'b", _ENGINES),
    ("captions.engine", ":", _ENGINES),
    ("admin.store", "file:///x", "sqlite:///path, dynamodb://table, or database:"),
    ("admin.session_idle", "0", "seconds, more than 0"),
    ("admin.forwarded_from", "10.0.0.1/8", "networks"),
    ("oidc.issuer", "ftp://id.example.com", "the issuer's URL"),
    ("oidc.issuer", "https://id.example.com/?***", "the issuer's URL"),
    ("oidc.issuer", "https://***@id.example.com/", "the issuer's URL"),
    ("oidc.name", "", "text of 1 to 60 characters"),
    ("rtmp.port", "abc", "a port number"),
    ("srt.latency", "60001", "whole milliseconds"),
    ("srt.srtla_port", "-2", "a port number"),
    ("rtmp.port", "-1", "a port number"),
    ("rtmp.port", "65536", "a port number"),
    ("rtmp.port", "", "a port number"),
    ("rtmp.port", "1.5", "a port number"),
    ("rtmp.host", "a b", "an address or a host name"),
    ("rtmp.host", "", "an address or a host name"),
    ("rtmp.host", "[::1", "an address or a host name"),
    ("rtmp.host", "x" * 300, "an address or a host name"),
    ("rtmp.proxy_from", "10.0.0.1/8", "networks"),
    ("rtmp.proxy_from", "everywhere", "networks"),
    ("http.flush_ms", "10001", "milliseconds"),
    ("http.advertise", "host", "host:port"),
    ("http.advertise", "host:0", "host:port"),
    ("http.advertise", "a:b:1", "host:port"),
    ("stream.linger", "nan", "seconds"),
    ("stream.linger", "inf", "seconds"),
    ("stream.linger", "-1", "seconds"),
    ("cmaf.part", "0", "seconds from 0.05"),
    ("hls.on_demand", "maybe", "true or false"),
    ("admin.tls", "", "true or false"),
    ("signing.algorithm", "sha1", "hmac-sha256 or md5"),
    ("playback.auth", "all", "none, sign or cloudfront"),
    ("playback.public_url", "live.example.com", "a URL"),
    ("playback.public_url", "http://[::1", "a URL"),
    ("playback.public_url", "https://a/?***", "a URL"),
    ("playback.public_url", "https://live.example.com ", "a URL"),
    ("playback.node_url", "https://a b", "a URL"),
    ("s3.endpoint", " https://minio.example.com", "a URL"),
    ("hooks.url", "ftp://a/", "a URL"),
    ("hooks.url", "http://", "a URL"),
    ("cloudfront.public_keys", "K1", "<key pair id>=<PEM file>"),
    ("channels", "redis://x", "sqlite:///path, dynamodb://table, or database:"),
    ("channels", "sqlite://x", "sqlite:///path, dynamodb://table, or database:"),
    ("channels", "dynamodb://a b", "sqlite:///path, dynamodb://table, or database:"),
    ("objects", "s3://", "file:///path or s3://bucket"),
    ("registry", "redis://x", "dynamodb://table"),
    ("data", "", "the path of a folder"),
    ("egress.allow", "[::1", "networks, hosts or URL prefixes"),
    ("egress.allow", "udp://10.1.2.3", "networks, hosts or URL prefixes"),
    ("egress.allow", "srt://10.1.2.3", "networks, hosts or URL prefixes"),
    ("egress.allow", "ftp://10.1.2.3/", "networks, hosts or URL prefixes"),
    ("ws.origins", "studio.example.com", "origins, such as https://studio.example.com"),
    ("ws.origins", "https://studio.example.com:99999", "origins, such as https://studio.example.com"),
    ("playback.referer_allow", "https://example.com", "hosts, such as example.com, *.example.com"),
    ("playback.referer_allow", "example.com/page", "hosts, such as example.com, *.example.com"),
    ("recording.bin_hours", "1000000000", "whole hours from 0 to 876000"),
    ("serve.workers", "-1", "a whole number"),
    ("serve.workers", "two", "a whole number"),
    ("log.level", "loud", "debug, info, warning or error"),
    ("limits.item", "1e5", "a whole number"),
    ("limits.viewer_backlog", "0", "a whole number, 1 or more"),
]


@pytest.mark.parametrize(("name", "value", "expected"), BAD_VALUES)
def test_the_error_for_a_bad_value_has_option_value_source_and_expectation(name, value, expected):
    line = refused(environ={variable(name): value})
    assert line.startswith(f'{name} is "{value}" ({variable(name)}), expected ')
    assert expected in line


@pytest.mark.parametrize("text", ["too short", "x" * 80, "with + in it", "with é in it"])
def test_a_bad_passphrase_of_srt_is_refused_and_not_shown(text):
    line = refused(environ={"MILLRACE_SRT__PASSPHRASE": text})
    assert "srt.passphrase" in line and "10 to 79 characters" in line
    assert text not in line


BAD_FILES = [
    ("[rtmpp]\nport = 1", "no such option rtmpp; did you mean rtmp?"),
    ("[rtmp]\nprot = 1", "no such option rtmp.prot; did you mean rtmp.port?"),
    ("dta = 'x'", "no such option dta; did you mean data?"),
    ("rtmp = 5", "rtmp is a section, write [rtmp]"),
    ("[rtmp]\nport = true", "rtmp.port is true"),
    ("[rtmp]\nport = [1]", "rtmp.port is [1]"),
    ("[rtmp]\nhost = 5", "rtmp.host is 5"),
    ("[data]\nx = 1", "data is {'x': 1}"),
    ("[stream]\nlinger = inf", "stream.linger is inf"),
    ("[ws]\norigins = [1]", "ws.origins is [1]"),
    ("[http]\nforwarded_from = 5", "http.forwarded_from is 5"),
    ("[cloudfront]\npublic_keys = 5", "cloudfront.public_keys is 5"),
    ("[cloudfront.public_keys]\nK = 5", "cloudfront.public_keys is {'K': 5}"),
    ('[tls]\ncert = "a\\u0000b"\nkey = "k"', "tls.cert is "),
    ("[rtmp\nport", "is not TOML"),
    ("x = " + "[" * 100_000, "is not TOML"),
    ("x = " + "9" * 5_000, "is not TOML"),
]


@pytest.mark.parametrize(("text", "said"), BAD_FILES)
def test_an_invalid_file_gives_a_one_line_error(tmp_path, text, said):
    file = toml(tmp_path, text)
    assert said in refused(config=file)
    assert str(file) in refused(config=file)


def test_unreadable_files_give_a_one_line_error(tmp_path):
    assert refused(config=tmp_path / "none.toml") == f"{tmp_path}/none.toml cannot be read: No such file or directory"
    assert "Is a directory" in refused(config=tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in refused(config=tmp_path / "binary.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * 1_000_001)
    assert "too large" in refused(config=tmp_path / "large.toml")


@pytest.mark.parametrize("profile", ["nope", "../default", "default", "/etc/passwd", "container.toml"])
def test_the_error_for_an_unknown_profile_lists_the_known_ones(profile):
    assert re.fullmatch(r"no profile .+; there (is|are) .*container.*", refused(profile=profile))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rtmp.port", "expected section.option=value"),
        ("rtmp.prot=1", "no such option; did you mean rtmp.port?"),
        ("rtmp.port=x", "(command line), expected a port"),
    ],
)
def test_an_invalid_override_gives_a_one_line_error(override, said):
    assert said in refused(overrides=[override])


# What tasks on ECS need.
ECS = {"WORKERS__RUNNER": "ecs", "ECS__TASK": "t", "ECS__CONTAINER": "c", "CLUSTER__SECRET": "s" * 16,
       "REGISTRY": "sqlite:///r.db"}  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TLS__CERT": "/a"}, "tls.cert and tls.key belong together"),
        ({"TLS__KEY": "/a"}, "tls.cert and tls.key belong together"),
        ({"ADMIN__TLS": "true"}, "admin.tls is true, so"),
        (
            {"TLS__ACME": "a.example", "TLS__CERT": "/a", "TLS__KEY": "/a"},
            "tls.acme and tls.cert contradict each other",
        ),
        ({"TLS__ACME": "*.example.com"}, "no *.example.com, which an authority checks in the DNS only"),
        ({"TLS__ACME": "192.0.2.1"}, "no addresses"),
        ({"TLS__ACME": "localhost"}, "public names such as live.example.com"),
        ({"TLS__ACME": "a.example", "TLS__ACME_DIRECTORY": "http://ca.example/"}, "a URL with https://"),
        ({"PLAYBACK__AUTH": "cloudfront"}, "cloudfront.public_keys"),
        (ECS | {"ECS__TASK": ""}, "so ecs.task has to be set"),
        (ECS | {"ECS__CONTAINER": ""}, "so ecs.container has to be set"),
        (ECS | {"CLUSTER__SECRET": ""}, "so cluster.secret has to be set"),
        (ECS | {"REGISTRY": ""}, "so registry has to be set"),
        ({"ECS__EVENTS": "https://sqs.eu-central-1.amazonaws.com/1/q"}, "so ecs.addresses has to name"),
        (
            {"SIGNING__SECRET_FILE": "/no/such/file"},
            "MILLRACE_SIGNING__SECRET_FILE names a file that cannot be read",
        ),
    ],
)
def test_contradictory_options_give_a_one_line_error(environ, said):
    assert said in refused(environ={f"MILLRACE_{k}": v for k, v in environ.items()})


def test_the_private_key_of_cloudfront_is_a_file_a_reference_or_the_key_itself():
    def key(text):
        environ = {"MILLRACE_CLOUDFRONT__PRIVATE_KEY": text, "MILLRACE_CLOUDFRONT__KEY_PAIR_ID": "K1"}
        return load(environ=environ).cloudfront.private_key.get_secret_value()

    assert key("/run/key.pem") == key("file:/run/key.pem") == "file:/run/key.pem"
    assert key("key.pem") == f"file:{Path('key.pem').absolute()}"
    assert key("secretsmanager:cloudfront") == "secretsmanager:cloudfront"
    assert key("-----BEGIN PRIVATE KEY-----\nx") == "-----BEGIN PRIVATE KEY-----\nx"
    with pytest.raises(SettingsError, match="belong together"):
        load(environ={"MILLRACE_CLOUDFRONT__KEY_PAIR_ID": "K1"})


def test_the_cloudfront_origin_secret_replaces_public_keys():
    environ = {"MILLRACE_PLAYBACK__AUTH": "cloudfront", "MILLRACE_CLOUDFRONT__ORIGIN_SECRET": "s"}
    assert load(environ=environ).playback.auth == "cloudfront"


GUARDED = ("ADMIN__TOKEN", "SIGNING__SECRET", "SIGNING__PREVIOUS_SECRET", "CLUSTER__SECRET")


@pytest.mark.parametrize("option", GUARDED)
@pytest.mark.parametrize("secret", ["x", "fifteen letters", " " * 20, "x" + " " * 20])
def test_important_secrets_need_sixteen_characters(option, secret):
    line = refused(environ={f"MILLRACE_{option}": secret})
    assert line.startswith(option.lower().replace("__", ".")) and "expected at least 16 characters" in line


@pytest.mark.parametrize("option", GUARDED)
def test_secrets_of_sixteen_characters_or_none_are_accepted(option):
    for secret in ("", "sixteen letters!", "file:/run/s"):
        load(environ={f"MILLRACE_{option}": secret})


def test_short_secrets_of_other_services_give_only_a_warning():
    environ = {"MILLRACE_HOOKS__SECRET": "short", "MILLRACE_OIDC__CLIENT_SECRET": "cs"}
    assert short_secrets(load(environ=environ)) == ["hooks.secret"]
    environ |= {"MILLRACE_HOOKS__SECRET": "sixteen letters!", "MILLRACE_CLOUDFRONT__ORIGIN_SECRET": "s"}
    assert short_secrets(load(environ=environ)) == ["cloudfront.origin_secret"]
    assert short_secrets(load(environ={})) == []


@pytest.mark.parametrize(
    "password", ["geheim/1", "12/geheim", "geheim#1", "geheim@1", "geheim?1", "/geheim", "[geheim"]
)
@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_password_with_signs_of_an_address_has_to_be_escaped(scheme: str, password: str):
    address = f"{scheme}://millrace:{password}@db.example.com:5432/millrace"
    for sources in ({"environ": {"MILLRACE_DATABASE": address}}, {"environ": {}, "overrides": [f"database={address}"]}):
        line = refused(**sources)
        assert "%40 for @" in line and "geheim" not in line
    escaped = f"{scheme}://millrace:{quote(password, safe='')}@[2001:db8::1]:5432,db2/millrace?application_name=a@b"
    assert load(environ={"MILLRACE_DATABASE": escaped}).database.get_secret_value() == escaped


@pytest.mark.parametrize("host", ["db:port", "db1:5432,db2:x", "[::1]:x", "db:70000"])
def test_the_port_of_a_database_is_a_number(host: str):
    line = refused(environ={"MILLRACE_DATABASE": f"postgresql://millrace@{host}/millrace"})
    assert "expected postgresql://" in line


def test_all_errors_are_reported_at_once():
    with pytest.raises(SettingsError) as e:
        load(environ={"MILLRACE_RTMP__PORT": "x", "MILLRACE_HTTP__PORT": "y"})
    assert len(e.value.problems) == 2


def test_errors_and_output_never_contain_a_secret(tmp_path):
    line = refused(config=toml(tmp_path, "[signing]\nsecret = 12345678"))
    assert "signing.secret" in line
    assert "12345678" not in line
    assert shown(load(environ={"MILLRACE_SIGNING__SECRET": "hidden" * 3}), "signing.secret") == "********"
    assert shown(load(environ={}), "signing.secret") == '""'
    assert {name for name in OPTIONS if is_secret(name)} >= {
        "signing.secret",
        "signing.previous_secret",
        "admin.token",
        "hooks.secret",
        "cluster.secret",
        "cloudfront.origin_secret",
    }


HIDDEN = [
    ("hooks.url", "htps://user:geheim@y/x", "htps://***@y/***"),
    ("hooks.url", "htps://user:ge/geheim@y/x", "htps://***"),
    ("hooks.url", "htps://hooks.example.com:8443/services/geheim?token=geheim", "htps://hooks.example.com:8443/***"),
    ("hooks.url", "http://user:geheim", "http://***"),
    ("hooks.url", "user:geheim@y", "***"),
    ("playback.public_url", "ftp://user:ge/heim@y/x?sign=geheim", "ftp://***@y/x?***"),
    ("oidc.issuer", "https:/user:geheim@y", "https:/***@y"),
    ("vod.queue", "//user:geheim@y", "***@y"),
    ("registry", "redis://:geheim@y/0", "redis://***@y/0"),
    ("channels", "mysql://user:geheim@y/x?password=geheim", "mysql://***@y/x?***"),
    ("webrtc.ice_servers", "turn:turn.example.com geheim", "turn:turn.example.com ***"),
    ("ws.compatible", "rtmp://user:geheim@y/app", "rtmp://***@y/app"),
    ("egress.allow", "10.0.0.0/8,http://user:geheim@y/x", "10.0.0.0/8,http://***@y/x"),
]


@pytest.mark.parametrize(("name", "value", "displayed"), HIDDEN)
def test_errors_mask_secrets_in_other_options(name, value, displayed, tmp_path):
    for line in (refused(environ={variable(name): value}), refused(overrides=[f"{name}={value}"])):
        assert line.startswith(f'{name} is "{displayed}" (')
    assert "geheim" not in refused(config=toml(tmp_path, f"{name} = ['{value}']"))
    assert "geheim" not in refused(config=toml(tmp_path, f"{name} = {{a = '{value}'}}"))


def test_the_output_of_check_config_masks_secrets():
    hook = load(environ={"MILLRACE_HOOKS__URL": "https://user:geheim@hooks.example.com/services/geheim"})
    assert shown(hook, "hooks.url") == '"https://***@hooks.example.com/***"'
    turn = load(environ={"MILLRACE_WEBRTC__ICE_SERVERS": "turn:turn.example.com:3478 user geheim, stun:a.example.com"})
    assert shown(turn, "webrtc.ice_servers") == '["turn:turn.example.com:3478 ***", "stun:a.example.com"]'
    users = load(environ={"MILLRACE_OIDC__ALLOW": "alice@example.com"})
    assert shown(users, "oidc.allow") == '["alice@example.com"]'


@pytest.mark.parametrize("override", ["admin.token:geheim", "admin.token geheim", "geheim"])
def test_the_error_for_a_wrong_separator_hides_the_value(override):
    line = refused(overrides=[override])
    assert "expected section.option=value" in line and "geheim" not in line
    assert ("admin.token" in line) == ("admin.token" in override)


@pytest.mark.parametrize("text", ["", "\n", " \r\n", "\ufeff"])
def test_an_empty_secret_file_gives_a_one_line_error(tmp_path, text):
    (tmp_path / "secret").write_text(text)
    line = refused(environ={"MILLRACE_ADMIN__TOKEN_FILE": str(tmp_path / "secret")})
    assert line == "MILLRACE_ADMIN__TOKEN_FILE names an empty file"


def test_a_secret_given_instead_of_a_file_path_is_hidden():
    line = refused(environ={"MILLRACE_ADMIN__TOKEN_FILE": "geheim-0123456789"})
    assert line == "MILLRACE_ADMIN__TOKEN_FILE names a file that cannot be read: No such file or directory"


@pytest.mark.parametrize("name", [name for name in OPTIONS if not is_secret(name)])
def test_displayed_values_are_valid_in_a_settings_file(name, tmp_path):
    environ = {"MILLRACE_RTMP__PROXY_FROM": "::1, 10.0.0.0/8", "MILLRACE_CLOUDFRONT__PUBLIC_KEYS": "K=/k.pem"}
    settings = load(environ=environ)
    assert load(config=toml(tmp_path, f"{name} = {shown(settings, name)}"), environ=environ) == settings


def test_missing_files_are_listed(tmp_path):
    there = tmp_path / "there.pem"
    there.touch()
    environ = {
        "MILLRACE_TLS__CERT": str(there),
        "MILLRACE_TLS__KEY": str(tmp_path / "gone.pem"),
        "MILLRACE_CLOUDFRONT__PUBLIC_KEYS": f"K1={tmp_path}",
        "MILLRACE_TRANSCODE__LADDERS": str(tmp_path / "gone.toml"),
        "MILLRACE_SIGNING__SECRET": f"file:{tmp_path}/gone",
        "MILLRACE_SIGNING__PREVIOUS_SECRET": "a secret with: colons in it",
        "MILLRACE_CLUSTER__SECRET": "ssm:/live/cluster",
        "MILLRACE_ADMIN__TOKEN": f"file:{there}",
    }
    assert missing_files(load(environ=environ)) == [
        f"tls.key names {tmp_path}/gone.pem, which cannot be read: No such file or directory",
        f"transcode.ladders names {tmp_path}/gone.toml, which cannot be read: No such file or directory",
        f"signing.secret names {tmp_path}/gone, which cannot be read: No such file or directory",
        f"cloudfront.public_keys K1 names {tmp_path}, which cannot be read: Is a directory",
    ]


def test_a_pipe_is_not_read_before_its_secret_is_needed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert missing_files(load(environ={"MILLRACE_ADMIN__TOKEN": f"file:{tmp_path}/pipe"})) == []


def test_names_for_acme_open_the_ports_that_an_authority_checks():
    environ = {"MILLRACE_TLS__ACME": "Live.Example.com, bücher.example"}
    found = load(environ=environ)
    assert found.tls.acme == ("live.example.com", "xn--bcher-kva.example")
    assert (found.http.port, found.https.port, found.has_tls) == (80, 443, True)
    chosen = load(environ=environ | {"MILLRACE_HTTP__PORT": "8080", "MILLRACE_HTTPS__PORT": "8443"})
    assert (chosen.http.port, chosen.https.port) == (8080, 8443)


@pytest.mark.parametrize("data", ["~no-such-user/data", "a\0b"])
def test_a_data_folder_that_cannot_be_named_gives_a_one_line_error(monkeypatch, tmp_path, data):
    for name in [name for name in os.environ if name.startswith("MILLRACE_")]:
        monkeypatch.delenv(name)
    text = f"data = {json.dumps(data)}"
    assert refused(environ=None, config=toml(tmp_path, text)).endswith("expected the path of a folder")


def test_the_settings_of_a_fleet_are_below_those_of_the_machine(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("MILLRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MILLRACE_DATA", str(tmp_path))
    monkeypatch.setenv("MILLRACE_STREAM__LINGER", "3")
    values = {
        "stream.linger": 5.0,
        "stream.takeover_after": 4.5,
        "cluster.secret": 'a "secret" \\ é\x7f of this test',
        "rtmp.apps": ["live"],
    }
    (tmp_path / "fleet.toml").write_text(as_toml({"database": "postgresql://u:p@h/n", **values}, "of a test"))
    settings = load()
    assert settings.cluster.secret.get_secret_value() == values["cluster.secret"]
    assert (settings.stream.linger, settings.stream.takeover_after, settings.rtmp.apps) == (3, 4.5, ("live",))
    assert settings.channels == "database:"
    assert load(environ={"MILLRACE_DATA": str(tmp_path)}).stream.takeover_after != 4.5
    (tmp_path / "fleet.toml").write_text("[stream]\nnonsense = 1\n")
    with pytest.raises(SettingsError, match=r"fleet\.toml: no such option stream\.nonsense"):
        load()
