"""The data folder keeps the signing secret and the admin token, which are generated once."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.adapters.local import data_folder
from gateway.adapters.local.credentials import admin_token, new_admin_token, signing_secret, store_admin_token
from gateway.adapters.local.data_folder import write_once
from gateway.adapters.local.host import known_ports, shown_host
from gateway.channels.addresses import OpenPorts
from gateway.channels.stream_key import Algorithm
from gateway.ports.errors import StoreUnusable
from gateway.settings import load


@pytest.fixture
def made(tmp_path):
    """Returns a function that makes settings on a data folder that does not exist yet."""

    def make(**environ):
        return load(environ={"MILLRACE_DATA": str(tmp_path / "var")} | {f"MILLRACE_{k}": v for k, v in environ.items()})

    return make


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


class TestSigningSecret:
    def test_the_signing_secret_is_generated_once_and_stored_privately(self, made, tmp_path):
        first = signing_secret(made())
        assert len(first.current) >= 43
        assert signing_secret(made()) == first
        assert mode(tmp_path / "var" / "signing.secret") == 0o600
        assert [f.name for f in (tmp_path / "var").iterdir()] == ["signing.secret"]

    def test_a_configured_signing_secret_is_used_and_no_file_is_written(self, made, tmp_path):
        chosen, old = "the secret that is set", "the secret that was set"
        secrets = signing_secret(made(SIGNING__SECRET=chosen, SIGNING__PREVIOUS_SECRET=old, SIGNING__ALGORITHM="md5"))
        assert (secrets.current, secrets.previous, secrets.algorithm) == (chosen, old, Algorithm.MD5)
        assert not (tmp_path / "var").exists()

    def test_simultaneous_starts_get_the_same_signing_secret(self, made):
        with ThreadPoolExecutor(16) as pool:
            assert len({s.current for s in pool.map(lambda _: signing_secret(made()), range(64))}) == 1

    def test_the_signing_secret_works_on_a_file_system_without_hard_links(self, made, monkeypatch):
        monkeypatch.setattr(
            data_folder.os, "link", lambda *_: (_ for _ in ()).throw(OSError(1, "Operation not permitted"))
        )
        assert signing_secret(made()) == signing_secret(made())

    @pytest.mark.parametrize(
        ("content", "said"), [(b"", "empty"), (b" \n", "empty"), (b"\xff\xfe", "not text"), (b"x\n", "fewer than 16")]
    )
    def test_a_damaged_signing_secret_file_raises_store_unusable(self, made, tmp_path, content, said):
        (tmp_path / "var").mkdir()
        (tmp_path / "var" / "signing.secret").write_bytes(content)
        with pytest.raises(StoreUnusable, match=said):
            signing_secret(made())

    def test_a_folder_that_cannot_be_created_raises_store_unusable(self, made, tmp_path):
        (tmp_path / "var").touch()
        with pytest.raises(StoreUnusable, match=r"data folder .* cannot be made"):
            signing_secret(made())


class TestAdminToken:
    def test_a_new_admin_token_is_stored_as_a_hash_when_it_was_shown(self, made, tmp_path):
        first = admin_token(made())
        assert not first.is_known and not (tmp_path / "var").exists()
        token = first.make()
        assert first.verifier.verify(token)
        (tmp_path / "var").mkdir()
        assert first.store() is True
        kept = (tmp_path / "var" / "admin.token").read_text()
        assert token not in kept
        assert mode(tmp_path / "var" / "admin.token") == 0o600
        again = admin_token(made())
        assert again.is_known and again.verifier.verify(token)
        assert first.store() is False

    @pytest.mark.parametrize("wrong", ["", "x", "\ud800", "é", "x" * 10_000])
    def test_a_wrong_admin_token_is_refused(self, made, wrong):
        assert not admin_token(made()).verifier.verify(wrong)

    def test_a_configured_admin_token_is_used_and_no_file_is_written(self, made, tmp_path):
        token = admin_token(made(ADMIN__TOKEN="streng-geheim-für-alle"))
        assert token.is_known and token.path is None
        assert token.verifier.verify("streng-geheim-für-alle")
        assert not token.verifier.verify("streng-geheim-fur-alle")
        assert not (tmp_path / "var").exists()

    def test_a_damaged_admin_token_file_raises_store_unusable(self, made, tmp_path):
        (tmp_path / "var").mkdir()
        (tmp_path / "var" / "admin.token").write_text("sha256:123")
        with pytest.raises(StoreUnusable, match="millrace token reset"):
            admin_token(made())
        new, file_text = new_admin_token()
        store_admin_token(tmp_path / "var", file_text)
        assert admin_token(made()).verifier.verify(new)
        assert mode(tmp_path / "var" / "admin.token") == 0o600
        assert sorted(path.name for path in (tmp_path / "var").iterdir()) == ["admin.token"]

    def test_the_hash_is_not_in_the_repr(self, made):
        assert "digest" not in repr(admin_token(made()))


def test_write_once_writes_a_file_once_and_leaves_no_other_file(tmp_path):
    assert write_once(tmp_path / "f", "one") is True
    assert write_once(tmp_path / "f", "two") is False
    assert (tmp_path / "f").read_text() == "one"
    assert os.listdir(tmp_path) == ["f"]


class TestPorts:
    def test_known_ports_combine_fixed_ports_with_the_ports_that_were_opened(self, made, tmp_path):
        (tmp_path / "var").mkdir()
        (tmp_path / "var" / "ports.json").write_text(json.dumps({"rtmp": 40001, "http": 40002, "admin": None}))
        ports = known_ports(made(RTMP__PORT="0", HTTP__PORT="9090", ADMIN__PORT="0"))
        assert ports == OpenPorts(rtmp=40001, http=9090, ws=8081, webrtc=8189, srt=8890, srtla=5000, admin=0)

    @pytest.mark.parametrize("text", [None, "", "[]", "{"])
    def test_without_a_usable_ports_file_the_ports_come_from_the_settings(self, made, tmp_path, text):
        if text is not None:
            (tmp_path / "var").mkdir()
            (tmp_path / "var" / "ports.json").write_text(text)
        expected = OpenPorts(rtmp=1935, http=8080, ws=8081, webrtc=8189, srt=8890, srtla=5000, admin=8000)
        assert known_ports(made()) == expected

    def test_the_tls_ports_are_known_if_there_is_a_certificate(self, made):
        ports = known_ports(made(TLS__CERT="/c", TLS__KEY="/k"))
        assert (ports["rtmps"], ports["https"], ports["wss"]) == (1938, 8443, 8444)


@pytest.mark.parametrize(
    ("bind", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("::1", "::1"),
        ("192.0.2.7", "192.0.2.7"),
        ("live.lan", "live.lan"),
    ],
)
def test_a_single_address_is_shown_as_it_is(bind, shown):
    assert shown_host(bind) == shown


@pytest.mark.parametrize("bind", ["0.0.0.0", "::"])
def test_all_addresses_are_shown_as_one_that_others_can_reach(bind):
    assert shown_host(bind) not in ("0.0.0.0", "::", "")
