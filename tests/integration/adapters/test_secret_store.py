"""The contract of secret stores (files, SSM, Secrets Manager), and the rotation of secrets in a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import structlog

from gateway.adapters.aws.secret_stores import ManagedSecrets, SsmSecrets
from gateway.adapters.aws.session import AwsSession
from gateway.adapters.local.credentials import FileSecrets, admin_token, signing_secret
from gateway.adapters.secret_resolver import SecretResolver, resolve_secrets
from gateway.channels.stream_key import Verdict
from gateway.lib.tasks import Tasks
from gateway.ports.errors import StoreUnavailable, StoreUnusable
from gateway.ports.stores import SecretStore
from gateway.settings import Settings, SettingsError, load
from tests.support.command_line import run
from tests.support.time_outs import at_most

REGION = "eu-central-1"
ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Kept:
    """A secret in one kind of store. `put` sets another value, like a rotation."""

    store: SecretStore
    name: str
    put: Callable[[str], object]
    kind: str

    @property
    def reference(self) -> str:
        return f"{self.kind}:{self.name}"


@contextlib.asynccontextmanager
async def kept(kind: str, folder: Path) -> AsyncIterator[Kept]:
    if kind == "file":
        path = folder / "secret"
        yield Kept(FileSecrets(), str(path), lambda text: path.write_text(text + "\n"), kind)
        return
    client = boto3.client(kind, region_name=REGION)

    def managed(text: str) -> None:
        try:
            client.create_secret(Name="millrace/signing", SecretString=text)
        except client.exceptions.ResourceExistsException:
            client.put_secret_value(SecretId="millrace/signing", SecretString=text)

    def parameter(text: str) -> None:
        client.put_parameter(Name="/millrace/signing", Value=text, Type="SecureString", Overwrite=True)

    async with AwsSession() as session:
        if kind == "ssm":
            yield Kept(SsmSecrets(session), "/millrace/signing", parameter, kind)
        else:
            yield Kept(ManagedSecrets(session), "millrace/signing", managed, kind)


KINDS = pytest.mark.parametrize("kind", ["file", "ssm", "secretsmanager"])
SERVICES = pytest.mark.parametrize("kind", ["ssm", "secretsmanager"])


@SERVICES
async def test_the_previous_value_is_read_like_the_current_one(aws: str, tmp_path: Path, kind: str) -> None:
    async with kept(kind, tmp_path) as at:
        at.put("first\n")  # as `--value file://…` stores a file
        current = (await at.store.read(at.name)).current
        at.put("second\n")
        value = await at.store.read(at.name)
        assert (value.current, value.previous) == ("second", current)


@KINDS
async def test_the_store_returns_the_current_value(aws: str, tmp_path: Path, kind: str) -> None:
    async with kept(kind, tmp_path) as at:
        at.put("first")
        value = await at.store.read(at.name)
        assert (value.current, value.previous) == ("first", "")
        assert value.modified > 1_600_000_000


@SERVICES
async def test_a_replaced_secret_has_a_previous_value(aws: str, tmp_path: Path, kind: str) -> None:
    async with kept(kind, tmp_path) as at:
        for text in ("first", "second", "third"):
            at.put(text)
        value = await at.store.read(at.name)
        assert (value.current, value.previous) == ("third", "second")


@KINDS
async def test_a_missing_secret_raises_store_unusable(aws: str, tmp_path: Path, kind: str) -> None:
    async with kept(kind, tmp_path) as at:
        with pytest.raises(StoreUnusable):
            await at.store.read(at.name)


@KINDS
async def test_the_repr_of_a_secret_does_not_contain_its_value(aws: str, tmp_path: Path, kind: str) -> None:
    async with kept(kind, tmp_path) as at:
        at.put("top-secret")
        assert "top-secret" not in repr(await at.store.read(at.name))


@SERVICES
async def test_a_secret_is_found_by_its_arn(aws: str, tmp_path: Path, kind: str) -> None:
    async with kept(kind, tmp_path) as at:
        at.put("first")
        client: Any = boto3.client(kind, region_name=REGION)
        if kind == "ssm":
            arn = client.get_parameter(Name=at.name)["Parameter"]["ARN"]
        else:
            arn = client.describe_secret(SecretId=at.name)["ARN"]
        assert (await at.store.read(arn)).current == "first"


@SERVICES
async def test_an_unreachable_service_raises_store_unavailable(
    aws: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    async with kept(kind, tmp_path) as at:
        with pytest.raises(StoreUnavailable):
            await at.store.read(at.name)


# ---- a gateway's vault ----


def settings(folder: Path, **environ: str) -> Settings:
    return load(environ={"MILLRACE_DATA": str(folder), **environ})


@KINDS
async def test_a_rotated_signing_secret_takes_effect_without_a_restart(aws: str, tmp_path: Path, kind: str) -> None:
    async with kept(kind, tmp_path) as at:
        at.put("old-secret-of-keys")
        async with SecretResolver(settings(tmp_path, MILLRACE_SIGNING__SECRET=at.reference)) as vault:
            signing, token = signing_secret(vault.settings), admin_token(vault.settings).verifier
            vault.follow(signing, token)
            old = signing.sign("c1", 4_000_000_000)
            at.put("new-secret-of-keys")
            await vault.refresh()
            new = signing.sign("c1", 4_000_000_000)
            assert new != old
            assert signing.verify("c1", old, 0) is signing.verify("c1", new, 0) is Verdict.VALID
            at.put("newest-secret-of-keys")
            await vault.refresh()
            assert signing.verify("c1", old, 0) is Verdict.WRONG
            assert signing.verify("c1", new, 0) is Verdict.VALID


async def test_a_configured_previous_secret_takes_precedence_over_the_stored_one(aws: str, tmp_path: Path) -> None:
    async with kept("ssm", tmp_path) as at:
        at.put("one-secret-of-keys")
        at.put("two-secrets-of-keys")
        chosen = settings(
            tmp_path, MILLRACE_SIGNING__SECRET=at.reference, MILLRACE_SIGNING__PREVIOUS_SECRET="kept-secret-of-keys"
        )
        assert signing_secret(await resolve_secrets(chosen)).previous == "kept-secret-of-keys"
        chosen = settings(tmp_path, MILLRACE_SIGNING__SECRET=at.reference)
        assert signing_secret(await resolve_secrets(chosen)).previous == "one-secret-of-keys"


async def test_a_rotated_admin_token_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first-token-of-admin\n")
    async with SecretResolver(settings(tmp_path, MILLRACE_ADMIN__TOKEN=f"file:{path}")) as vault:
        signing, token = signing_secret(vault.settings), admin_token(vault.settings).verifier
        vault.follow(signing, token)
        mark = token.mark
        assert token.verify("first-token-of-admin")
        path.write_text("second-token-of-admin\n")
        await vault.refresh()
        assert token.verify("second-token-of-admin") and not token.verify("first-token-of-admin")
        assert token.mark != mark  # users who signed in with the old token have to sign in again


async def test_nodes_accept_each_other_while_the_cluster_secret_is_rotated(tmp_path: Path) -> None:
    """Nodes read the secret at different times, and accept signatures with the old and the new one."""
    path = tmp_path / "cluster"
    path.write_text("old-secret-of-nodes")
    os.utime(path, (1000, 1000))
    now = 10_000.0
    chosen = settings(tmp_path, MILLRACE_CLUSTER__SECRET=f"file:{path}")
    async with SecretResolver(chosen, lambda: now) as early, SecretResolver(chosen, lambda: now) as late:

        def asks(one: SecretResolver, other: SecretResolver) -> bool:
            target = "/_node/c1"
            return other.cluster.verify("GET", target, one.cluster.sign("GET", target, now), now) == ""

        assert asks(early, late) and asks(late, early)
        path.write_text("new-secret-of-nodes")
        os.utime(path, (now, now))
        await early.refresh()
        assert asks(early, late) and asks(late, early)
        now += chosen.signing.refresh
        await late.refresh()
        assert asks(early, late) and asks(late, early)
        now += 2 * chosen.signing.refresh
        await early.refresh()
        assert asks(early, late) and asks(late, early)
        path.write_text("newest-secret-of-nodes")
        assert early.cluster.verify("GET", "/", late.cluster.sign("GET", "/", now), now) == ""


@SERVICES
async def test_during_an_outage_the_last_known_secrets_stay_valid(
    aws: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    async with kept(kind, tmp_path) as at:
        at.put("the-secret-of-keys")
        async with SecretResolver(settings(tmp_path, MILLRACE_SIGNING__SECRET=at.reference)) as vault:
            signing, token = signing_secret(vault.settings), admin_token(vault.settings).verifier
            vault.follow(signing, token)
            key = signing.sign("c1", 4_000_000_000)
            store = vault._stores[kind]

            class Away:
                async def read(self, name: str) -> Any:
                    raise StoreUnavailable("it does not answer")

            vault._stores[kind] = Away()
            with structlog.testing.capture_logs() as logs:
                for _ in range(3):
                    await vault.refresh()
                vault._stores[kind] = store
                await vault.refresh()
            assert signing.verify("c1", key, 0) is Verdict.VALID
            assert [entry["log_level"] for entry in logs] == ["warning", "info"]


async def test_secrets_are_refreshed_automatically(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("one-secret-of-keys")
    chosen = settings(tmp_path, MILLRACE_SIGNING__SECRET=f"file:{path}", MILLRACE_SIGNING__REFRESH="0.01")
    async with SecretResolver(chosen) as vault, Tasks("vault") as tasks:
        signing, token = signing_secret(vault.settings), admin_token(vault.settings).verifier
        vault.follow(signing, token)
        tasks.start(vault.run())
        path.write_text("two-secrets-of-keys")
        async with asyncio.timeout(at_most(10)):
            while signing.current != "two-secrets-of-keys":
                await asyncio.sleep(0.01)
        assert signing.previous == "one-secret-of-keys"


async def test_without_references_there_is_nothing_to_read(tmp_path: Path) -> None:
    chosen = settings(tmp_path, MILLRACE_SIGNING__SECRET="a plain secret of keys")
    async with SecretResolver(chosen) as vault:
        assert vault.settings is chosen
        async with asyncio.timeout(at_most(5)):
            await vault.run()


@pytest.mark.parametrize(
    "text", ["ssm:", "ssm:a b", "secretsmanager:", "secretsmanager:arn:aws:s3:::b", "file:relative"]
)
def test_an_invalid_reference_is_an_error_in_the_settings(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        SettingsError, match=r"signing\.secret is \*+ .*expected at least 16 characters, or a reference"
    ):
        settings(tmp_path, MILLRACE_SIGNING__SECRET=text)


def test_a_secret_in_a_file_loads_no_aws_library(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("from-a-file-of-16")
    program = (
        "import sys, asyncio\n"
        "from gateway.settings import load\n"
        "from gateway.adapters.secret_resolver import resolve_secrets\n"
        "print(asyncio.run(resolve_secrets(load())).signing.secret.get_secret_value(), 'botocore' in sys.modules)\n"
    )
    environ = os.environ | {"MILLRACE_DATA": str(tmp_path), "MILLRACE_SIGNING__SECRET": f"file:{path}"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["from-a-file-of-16", "False"], done.stderr


def test_commands_read_secret_references_too(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("nodemedia2017privatekey\n")
    options = ("--id", "70ef9b07-adbe-478d-b098-d7c8efd84a98", "--expires", "1670371200", "--algorithm", "md5")
    secret = {"MILLRACE_SIGNING__SECRET": f"file:{path}"}
    done = run("sign", *options, env=os.environ | {"MILLRACE_DATA": str(tmp_path), **secret})
    assert done.stdout.strip() == "1670371200-5db080c8cdca8764de881bc04e61e2b1", done.stderr


# ---- secrets that can be guessed ----


@KINDS
async def test_a_secret_with_fewer_than_16_characters_is_refused(aws: str, tmp_path: Path, kind: str) -> None:
    async with kept(kind, tmp_path) as at:
        at.put("fifteen letters")
        for option in ("SIGNING__SECRET", "SIGNING__PREVIOUS_SECRET", "CLUSTER__SECRET", "ADMIN__TOKEN"):
            with pytest.raises(StoreUnusable, match="holds fewer than 16 characters"):
                await resolve_secrets(settings(tmp_path, **{f"MILLRACE_{option}": at.reference}))


async def test_a_short_secret_does_not_replace_a_valid_one(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("one-secret-of-keys")
    async with SecretResolver(settings(tmp_path, MILLRACE_SIGNING__SECRET=f"file:{path}")) as vault:
        signing, token = signing_secret(vault.settings), admin_token(vault.settings).verifier
        vault.follow(signing, token)
        path.write_text("x")
        with structlog.testing.capture_logs() as logs:
            await vault.refresh()
            await vault.refresh()
        assert (signing.current, signing.rotations) == ("one-secret-of-keys", 0)
        assert [(line["log_level"], line["option"]) for line in logs] == [("warning", "signing.secret")]


@SERVICES
async def test_a_short_previous_value_is_not_accepted(aws: str, tmp_path: Path, kind: str) -> None:
    async with kept(kind, tmp_path) as at:
        at.put("change-me")
        at.put("one-secret-of-keys")
        with structlog.testing.capture_logs() as logs:
            chosen = await resolve_secrets(settings(tmp_path, MILLRACE_SIGNING__SECRET=at.reference))
        assert signing_secret(chosen).previous == ""
        assert [line["log_level"] for line in logs] == ["warning"]


@KINDS
async def test_a_secret_with_the_keys_of_the_aws_console_gives_one_warning(aws: str, tmp_path: Path, kind: str) -> None:
    async with kept(kind, tmp_path) as at:
        at.put('{"token":"one-secret-of-keys"}')
        with structlog.testing.capture_logs() as logs:
            async with SecretResolver(settings(tmp_path, MILLRACE_ADMIN__TOKEN=at.reference)) as vault:
                await vault.refresh()
        assert vault.settings.admin.token.get_secret_value() == '{"token":"one-secret-of-keys"}'
        assert [(line["log_level"], line["option"]) for line in logs] == [("warning", "admin.token")]
        assert "one-secret-of-keys" not in str(logs)


async def test_refreshing_an_unchanged_secret_counts_no_rotation(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("one-secret-of-keys")
    async with SecretResolver(settings(tmp_path, MILLRACE_SIGNING__SECRET=f"file:{path}")) as vault:
        signing, token = signing_secret(vault.settings), admin_token(vault.settings).verifier
        vault.follow(signing, token)
        await vault.refresh()
        assert signing.rotations == 0
        path.write_text("two-secrets-of-keys")
        await vault.refresh()
        assert signing.rotations == 1
