"""The stores of the contract suites: SQLite, PostgreSQL, a folder, and DynamoDB, SSM and S3 on moto and MiniStack.

At night, S3 on the Versity gateway too, a server that is compatible with S3.
"""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.adapters.stores import Stores, open_stores
from gateway.ports.stores import ObjectStore
from gateway.settings import load
from tests.support.moto import small_bundle
from tests.support.permissions import Permission, granted, record
from tests.support.time_outs import at_most
from tests.unit.deploy.test_aws_templates import statements

TABLE = "video-metadata"
SESSIONS = "video-streaming"
BUCKET = "millrace-media"


# The double of AWS for the contract suites, and the fixture that makes this process its client.
DOUBLES = {"moto": "aws", "ministack": "ministack"}
# Of a contract suite. At night on moto too, which is less strict about DynamoDB.
CONTRACT_DOUBLES = (pytest.param("moto", marks=pytest.mark.nightly), "ministack")


@pytest.fixture(scope="session", autouse=True)
def models_read_once() -> Iterator[None]:
    """Reads the models of the services once per session, because each botocore session reads them anew."""
    from botocore.loaders import JSONFileLoader

    read = JSONFileLoader.load_file
    files: dict[str, Any] = {}

    def load_file(loader: JSONFileLoader, path: str) -> Any:
        if path not in files:
            files[path] = read(loader, path)
        return files[path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", load_file)
        yield


# Commands with an operator's own permissions, and references to parameters, which the stacks do not use.
_NOT_IN_TASKS = {"s3:GetBucketLifecycleConfiguration", "s3:PutBucketLifecycleConfiguration", "ssm:GetParameter"}


@pytest.fixture(autouse=True)
def permitted(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[Permission]]:
    """Yields the permissions that the test's calls need. The role of gateways on AWS must allow them."""
    found = record(monkeypatch)
    yield found
    allowed = set(granted(statements("GatewayRole")))
    actions, kinds = {action for action, _ in allowed} | _NOT_IN_TASKS, {kind for _, kind in allowed}
    # A test may name its tables as it likes.
    missing = {
        (a, kind) for a, kind in found - allowed if a not in actions or (kind in kinds and a not in _NOT_IN_TASKS)
    }
    assert not missing, "deploy/aws/services.yaml does not allow these calls"


@pytest.fixture
def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes this process a client of the moto server, which has only the original's tables and a bucket."""
    import requests

    requests.post(f"{moto_url}/moto-api/reset", timeout=at_most(10))
    client_of(moto_url, monkeypatch)
    return moto_url


@pytest.fixture
def ministack(ministack_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes this process a client of MiniStack, like `aws` for moto."""
    client_of(ministack_url, monkeypatch)
    return ministack_url


def client_of(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this process a client of an empty double, and creates the original's tables and a bucket there."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CA_BUNDLE", small_bundle())
    make_table(TABLE, "id")
    make_table(SESSIONS, "UUID")
    _client("s3", url).create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})


def make_table(table: str, key: str) -> None:
    """Creates a table with one key, which is a string."""
    dynamodb().create_table(
        TableName=table,
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def dynamodb() -> Any:
    """Returns a DynamoDB client for the test itself."""
    return _client("dynamodb", os.environ["AWS_ENDPOINT_URL"])


@functools.cache
def _client(service: str, url: str) -> Any:
    import boto3

    return boto3.client(service, region_name="eu-central-1", endpoint_url=url)


@pytest_asyncio.fixture(params=["sqlite", "postgres", *CONTRACT_DOUBLES])
async def stores(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[Stores]:
    """Yields each kind of store, empty."""
    environ = {"MILLRACE_DATA": str(tmp_path)}
    if request.param in DOUBLES:
        request.getfixturevalue(DOUBLES[request.param])
        environ["MILLRACE_CHANNELS"] = f"dynamodb://{TABLE}"
    elif request.param == "postgres":
        environ["MILLRACE_DATABASE"] = request.getfixturevalue("postgres").new_database()
    async with open_stores(load(environ=environ)) as opened:
        yield opened


@pytest_asyncio.fixture(params=["folder", "s3", pytest.param("versity", marks=pytest.mark.nightly)])
async def objects(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[ObjectStore]:
    """Yields each kind of object store, empty."""
    environ = {"MILLRACE_DATA": str(tmp_path / "data")}
    (tmp_path / "data").mkdir()
    if request.param == "s3":
        request.getfixturevalue("aws")
        environ["MILLRACE_OBJECTS"] = f"s3://{BUCKET}"
    elif request.param == "versity":
        environ |= request.getfixturevalue("store").settings()
    async with open_stores(load(environ=environ)) as opened:
        yield opened.objects
