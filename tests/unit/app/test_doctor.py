"""Findings of the doctor command on machines that lack something."""

import asyncio
import datetime
import json
import re
import socket
import sqlite3
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.adapters.stores import open_stores
from gateway.app import doctor
from gateway.app.doctor import CheckResult, CheckState
from gateway.settings import Settings, load
from tests.support.authority import Authority
from tests.support.no_ipv6 import remove_ipv6

NOW = datetime.datetime.now(datetime.UTC)


def settings(folder: Path, **variables: str) -> Settings:
    ports = {f"MILLRACE_{name}__PORT": "0" for name in ("RTMP", "HTTP", "WS", "ADMIN", "RTMPS", "HTTPS", "WSS")}
    return load(environ={"MILLRACE_DATA": str(folder / "data"), **ports, **variables})


def make_certificate(folder: Path, *, days: int = 365, since: int = -1, name: str = "a") -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + datetime.timedelta(days=min(since, days - 1)))
        .not_valid_after(NOW + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_file.write_bytes(key.private_bytes(*form))
    return cert_file, key_file


def only(findings: list[CheckResult]) -> CheckResult:
    (finding,) = findings
    return finding


def test_a_fresh_machine_has_no_missing_parts_and_no_files_are_created(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert doctor.main(settings(tmp_path)) == 0
    assert list(tmp_path.iterdir()) == []
    assert only([doctor.check_token(settings(tmp_path))]).text == "will be made and printed at the first start"
    out = capsys.readouterr().out
    assert "missing  " not in out
    assert "will be created" in out


def test_findings_can_be_printed_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    doctor.main(settings(tmp_path), as_json=True)
    findings = json.loads(capsys.readouterr().out)
    assert {"python", "data folder", "port rtmp", "channel store", "clock"} <= {f["name"] for f in findings}
    assert all(f.keys() == {"name", "state", "words"} for f in findings)


def test_a_port_in_use_makes_the_doctor_exit_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        chosen = settings(tmp_path, MILLRACE_RTMP__HOST="127.0.0.1", MILLRACE_RTMP__PORT=port)
        assert doctor.main(chosen) == 1
    assert f"127.0.0.1:{port} is in use by " in capsys.readouterr().out


@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
def test_ports_of_a_running_gateway_are_ok_and_no_proxy_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"OK")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            admin_port = {"MILLRACE_ADMIN__HOST": host, "MILLRACE_ADMIN__PORT": str(server.server_port)}
            findings = list(doctor.check_ports(settings(tmp_path, **admin_port)))
        finally:
            server.shutdown()
            thread.join()
    admin = next(f for f in findings if f.name == "port admin")
    assert (admin.state, "Millrace that runs" in admin.text) == (CheckState.OK, True)


def test_an_unusable_file_of_authorities_is_reported_for_the_database(tmp_path: Path):
    (tmp_path / "ca.pem").write_text("no certificate")
    database = "postgresql://u:p@127.0.0.1:1/millrace?sslmode=verify-full"
    chosen = settings(tmp_path, MILLRACE_DATABASE=database, MILLRACE_TLS__CA=str(tmp_path / "ca.pem"))
    finding = only(list(doctor.check_stores(chosen)))
    assert finding.state is CheckState.MISSING and f"tls.ca: {tmp_path}/ca.pem: " in finding.text


def test_files_that_the_start_could_not_use_are_reported(tmp_path: Path):
    broken = tmp_path / "broken"
    broken.write_text("no PEM")
    file = str(broken)
    chosen = settings(
        tmp_path, MILLRACE_TLS__CA=file, MILLRACE_TRANSCODE__LADDERS=file, MILLRACE_CLOUDFRONT__PUBLIC_KEYS=f"K1={file}"
    )
    found = [finding for finding in doctor.examine(chosen) if finding.state is CheckState.MISSING]
    assert {finding.name for finding in found} == {"file"}
    assert [finding.text.partition(f": {file}")[0] for finding in found[:2]] == ["tls.ca", "cloudfront.public_keys"]
    assert found[2].text.startswith(f"transcode.ladders: {file} is not TOML")
    assert doctor.check_files(settings(tmp_path)) == []


def test_one_port_for_two_listeners_is_reported(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    host = {"MILLRACE_HTTP__HOST": "127.0.0.1", "MILLRACE_WS__HOST": "127.0.0.1"}
    findings = doctor.check_ports(settings(tmp_path, MILLRACE_HTTP__PORT=port, MILLRACE_WS__PORT=port, **host))
    assert next(f for f in findings if f.name == "port ws").text.endswith("is set for http too")


def test_udp_ports_of_rtsp_that_are_in_use_leave_tcp(tmp_path: Path):
    assert doctor.check_rtsp_ports(settings(tmp_path)) == []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        chosen = {"MILLRACE_RTSP__PORT": "0", "MILLRACE_RTSP__HOST": "127.0.0.1", "MILLRACE_ADMIN__PORT": "1"}
        used = settings(tmp_path, MILLRACE_RTSP__UDP_PORTS=f"{port}-{port + 1}", **chosen)
        finding = only(doctor.check_rtsp_ports(used))
        assert finding.state is CheckState.WARNING and "over TCP only" in finding.text
    assert only(doctor.check_rtsp_ports(used)).state is CheckState.OK
    assert doctor.check_rtsp_ports(settings(tmp_path, MILLRACE_RTSP__UDP_PORTS="", **chosen)) == []


def test_an_address_of_another_machine_is_reported(tmp_path: Path):
    findings = doctor.check_ports(settings(tmp_path, MILLRACE_HTTP__HOST="192.0.2.1"))
    assert next(f for f in findings if f.name == "port http").state is CheckState.MISSING


def test_localhost_is_free_on_a_machine_without_ipv6(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    remove_ipv6(monkeypatch)
    findings = doctor.check_ports(settings(tmp_path, MILLRACE_HTTP__HOST="localhost"))
    assert next(f for f in findings if f.name == "port http").state is CheckState.OK


def test_a_file_in_place_of_the_data_folder_is_reported(tmp_path: Path):
    (tmp_path / "data").write_text("")
    assert only(doctor.check_data_folder(tmp_path / "data")).state is CheckState.MISSING
    assert only(doctor.check_data_folder(tmp_path / "data" / "deeper")).state is CheckState.MISSING


def test_low_disk_space_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Usage:
        free = 50_000_000

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage)
    assert doctor.check_data_folder(tmp_path)[1] == CheckResult("disk space", CheckState.MISSING, "0.1 GB free")
    Usage.free = 1_000_000_000
    assert doctor.check_data_folder(tmp_path)[1].state is CheckState.WARNING


def test_a_valid_certificate_is_ok(tmp_path: Path):
    found = only(doctor.check_certificate(*make_certificate(tmp_path)))
    assert (found.state, "364 days" in found.text) == (CheckState.OK, True)
    assert only(doctor.check_certificate(None, None)).state is CheckState.OK


@pytest.mark.parametrize(
    ("days", "since", "state", "words"),
    [
        (-1, -30, CheckState.MISSING, "expired on"),
        (5, -30, CheckState.WARNING, "4 days"),
        (60, 30, CheckState.MISSING, "valid only from"),
    ],
)
def test_an_expired_or_future_certificate_is_reported(
    tmp_path: Path, days: int, since: int, state: CheckState, words: str
):
    found = only(doctor.check_certificate(*make_certificate(tmp_path, days=days, since=since)))
    assert found.state is state and words in found.text


def test_a_certificate_that_acme_has_not_got_yet_is_a_warning(tmp_path: Path):
    found = only(doctor.check_certificate(tmp_path / "none.pem", None, acme=True))
    assert found.state is CheckState.WARNING and "port 80 or 443" in found.text


def test_a_certificate_without_its_issuer_is_a_warning(tmp_path: Path):
    authority = Authority(tmp_path)
    cert, key = authority.files("live.example.com")
    leaf = cert.read_bytes()

    def chain_is_missed() -> bool:
        found = only(doctor.check_certificate(cert, key))
        assert found.state is CheckState.WARNING, "it is valid for two days"
        return "fullchain.pem" in found.text

    assert chain_is_missed()
    cert.write_bytes(leaf + authority.file.read_bytes())
    assert not chain_is_missed()
    cert.write_bytes(leaf + leaf)
    assert chain_is_missed()


def test_a_key_of_another_certificate_is_reported(tmp_path: Path):
    cert, _ = make_certificate(tmp_path)
    _, key = make_certificate(tmp_path, name="b")
    found = only(doctor.check_certificate(cert, key))
    assert found.state is CheckState.MISSING and "is not the key of" in found.text


def test_an_absent_key_is_not_reported_as_a_fault_of_the_certificate(tmp_path: Path):
    cert, key = make_certificate(tmp_path)
    key.unlink()
    found = only(doctor.check_certificate(cert, key))
    assert found.text.startswith(f"{key}: ")


def test_an_invalid_or_absent_certificate_file_is_reported(tmp_path: Path):
    junk = tmp_path / "junk.pem"
    junk.write_bytes(b"\xff junk")
    for path in (junk, tmp_path / "absent.pem"):
        assert only(doctor.check_certificate(path, path)).state is CheckState.MISSING


def test_a_damaged_store_is_reported(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "millrace.db").write_bytes(b"this is no database" * 100)
    found = next(iter(doctor.check_stores(settings(tmp_path))))
    assert found.state is CheckState.MISSING and "millrace.db" in found.text


def test_a_damaged_events_store_is_only_a_warning(tmp_path: Path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "millrace.db").touch()
    (folder / "events.db").write_bytes(b"this is no database" * 100)
    channels, *_, events = doctor.check_stores(settings(tmp_path))
    assert (channels.name, channels.state) == ("channel store", CheckState.OK)
    assert (events.name, events.state) == ("events store", CheckState.WARNING) and "events.db" in events.text


async def test_existing_databases_are_only_read(tmp_path: Path):
    folder = tmp_path / "data"
    async with open_stores(settings(tmp_path)) as stores:
        await stores.channels.add({"id": "c1"})
        with sqlite3.connect(folder / "events.db") as old:
            old.execute("PRAGMA user_version = 0")
        (folder / "films.db").unlink()
        await asyncio.to_thread(_found_without_changes, folder)
    await asyncio.to_thread(_found_without_changes, folder)


def _found_without_changes(folder: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    found = {result.name: result.text for result in doctor.check_stores(settings(folder.parent))}
    shown = {name: text.removeprefix(f"{folder}/") for name, text in found.items()}
    assert shown == {
        "channel store": "millrace.db can be read", "jobs store": "jobs.db can be read",
        "films store": "films.db will be created", "console store": "console.db can be read",
        "events store": "events.db will be upgraded",
    }  # fmt: skip
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    changed = {path.name for path in before | after if before.get(path) != after.get(path)}
    assert all(name.endswith("-shm") for name in changed), "only the locks of readers, in files that exist already"
    assert before.keys() == after.keys()


def test_python_modules_that_the_settings_need_are_reported(tmp_path: Path):
    found = list(
        doctor.check_modules(settings(tmp_path, MILLRACE_CHANNELS="dynamodb://video-metadata"), lambda name: False)
    )
    assert [(f.name, f.state) for f in found] == [("uvloop", CheckState.WARNING), ("aioboto3", CheckState.MISSING)]


def test_the_library_of_moq_is_needed_where_its_port_is_on(tmp_path: Path):
    on = settings(tmp_path, MILLRACE_MOQ__PORT="0")
    found = {finding.name: finding for finding in doctor.check_modules(on, lambda name: False)}
    assert found["moq-rs"].state is CheckState.MISSING and "pip install moq-rs==" in found["moq-rs"].text
    assert "moq-rs" not in {finding.name for finding in doctor.check_modules(settings(tmp_path), lambda name: False)}


def test_workers_that_can_encode_and_draw_text_are_ok():
    found = list(doctor.check_workers(which=lambda name: f"/usr/bin/{name}", has_font=lambda code: True))
    assert [f.name for f in found] == ["workers", "lettering"]
    assert found[0].state is CheckState.OK and "libx264" in found[0].text


def test_scripts_without_fonts_are_reported_with_their_packages():
    _, found = doctor.check_workers(which=lambda name: f"/usr/bin/{name}", has_font=lambda code: code == "0915")
    assert found.state is CheckState.WARNING
    assert found.text.endswith("Chinese, Japanese and Korean, emoji (Debian: fonts-noto-cjk, fonts-noto-color-emoji)")


@pytest.mark.parametrize("program", ["import sys; sys.exit('no such thing')", "import os; os.abort()", "print('1|2')"])
def test_workers_that_cannot_start_are_reported(program: str):
    (found,) = doctor.check_workers(program)
    assert found.state is CheckState.MISSING


def test_programs_that_do_not_answer_are_reported(monkeypatch: pytest.MonkeyPatch):
    """From a slow card, the first start of PyAV or the first list of many fonts takes minutes."""

    def run(command: list[str], timeout: float, **options: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    for findings in doctor.check_workers(), doctor.check_captions("pocketsphinx"):
        finding = only(list(findings))
        assert finding.state is CheckState.MISSING and re.search("no answer within (60|120) s$", finding.text)
    assert doctor._has_font("4e2d")


@pytest.mark.parametrize(
    ("said", "fontconfig", "states"),
    [
        ("18|libx265|1|1", True, [CheckState.WARNING, CheckState.OK]),
        ("18||1|0", True, [CheckState.OK, CheckState.WARNING]),
        ("18||1|1", False, [CheckState.OK, CheckState.WARNING]),
    ],
)
def test_missing_codecs_and_fonts_of_workers_are_reported(said: str, fontconfig: bool, states: list[CheckState]):
    found = list(doctor.check_workers(f"print({said!r})", lambda name: name if fontconfig else None))
    assert [f.state for f in found] == states


def test_missing_optional_programs_are_never_an_error():
    assert all(f.state is CheckState.OK for f in doctor.check_programs(lambda name: None))


def test_a_low_file_limit_and_an_old_python_are_reported():
    assert doctor.check_open_files(1024).state is CheckState.WARNING
    assert doctor.check_open_files(65536).state is CheckState.OK
    assert doctor.check_python((3, 10, 1)).state is CheckState.MISSING


def test_a_wrong_or_unsynchronized_clock_is_reported():
    assert doctor.check_clock(now=1_000_000_000).state is CheckState.MISSING
    assert doctor.check_clock(synchronized=False).state is CheckState.WARNING
    assert doctor.check_clock(synchronized=True).state is CheckState.OK


@pytest.mark.parametrize(
    ("engine", "state", "words"),
    [
        ("pocketsphinx", CheckState.OK, "pocketsphinx is loaded"),
        ("command:true --any", CheckState.OK, "/true"),
        ("command:'no such program' x", CheckState.MISSING, "captions.engine: there is no program no such program"),
        ("sherpa-onnx:/nowhere", CheckState.MISSING, "sherpa-onnx: it is not installed: "),
    ],
)
def test_the_engine_of_captions_is_checked(engine: str, state: CheckState, words: str):
    finding = only(list(doctor.check_captions(engine)))
    assert (finding.name, finding.state) == ("captions", state) and words in finding.text


def test_without_an_engine_the_doctor_says_nothing_about_captions():
    assert list(doctor.check_captions("")) == []
