"""The address of PostgreSQL, as providers write it, becomes arguments of the driver."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from gateway.adapters.postgres.connections import PostgresConnections
from gateway.ports.errors import StoreUnusable
from tests.support.authority import Authority, self_signed

ADDRESS = "postgresql://u:p%40s@db.example.com,db2.example.com/millrace"


@pytest.mark.parametrize(
    ("query", "checks_name"),
    [
        ("sslmode=verify-full", True),
        ("sslmode=verify-full&sslrootcert=system", True),
        ("sslrootcert=system", True),
        ("sslmode=verify-ca", False),
    ],
)
def test_a_server_is_checked_with_the_authorities_of_the_system_and_of_the_settings(
    query: str, checks_name: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = (tmp_path / "system", tmp_path / "own")
    for folder in folders:
        folder.mkdir()
    of_system, own = (Authority(folder).file for folder in folders)
    monkeypatch.setenv("SSL_CERT_FILE", str(of_system))
    tls = PostgresConnections(f"{ADDRESS}?{query}", own).arguments()["ssl"]
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, checks_name)
    trusted = {ssl.PEM_cert_to_DER_cert(file.read_text()) for file in (of_system, own)}
    assert {*tls.get_ca_certs(True)} == trusted


def test_the_driver_reads_the_files_that_an_address_names(tmp_path: Path) -> None:
    own, key = self_signed(tmp_path, "db.example.com")
    address = f"{ADDRESS}?sslmode=verify-full&sslrootcert={own}&sslcert={own}&sslkey={key}"
    arguments = PostgresConnections(address, own).arguments()
    assert (arguments["dsn"], arguments["ssl"]) == (address, None)


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("sslmode=require&channel_binding=require", "?sslmode=require"),
        ("connect_timeout=10&keepalives=1&keepalives_idle=30&pgbouncer=true", ""),
        ("options=endpoint%3Dep-1&application_name=a%26b", "?options=endpoint%3Dep-1&application_name=a%26b"),
    ],
)
def test_parameters_of_libpq_are_not_sent_to_the_server(query: str, kept: str) -> None:
    arguments = PostgresConnections(f"{ADDRESS}?{query}").arguments()
    assert (arguments["dsn"], arguments["ssl"]) == (f"{ADDRESS}{kept}", None)


@pytest.mark.parametrize("address", [ADDRESS, "postgresql:///millrace?host=/run/postgresql&user=u"])
def test_an_address_without_a_user_is_explained_where_the_system_names_none(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_name(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("PGUSER", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_name)
    PostgresConnections(address)
    with pytest.raises(StoreUnusable, match="has no user"):
        PostgresConnections("postgresql://db.example.com/millrace")
    monkeypatch.setenv("PGUSER", "u")
    PostgresConnections("postgresql://db.example.com/millrace")


@pytest.mark.parametrize("name", ["sslrootcert", "sslcert", "sslkey", "sslcrl"])
async def test_a_missing_file_is_a_fault_of_the_settings_and_is_named(name: str) -> None:
    with pytest.raises(StoreUnusable, match=f"{name} names /no/such.pem, which cannot be read: No such file") as raised:
        await PostgresConnections(f"{ADDRESS}?sslmode=verify-full&{name}=/no/such.pem").__aenter__()
    assert "p%40s" not in str(raised.value)


async def test_an_unknown_mode_is_a_fault_of_the_settings() -> None:
    with pytest.raises(StoreUnusable, match="`sslmode` parameter must be one of"):
        await PostgresConnections("postgresql://u:p@127.0.0.1:1/millrace?sslmode=full").__aenter__()
