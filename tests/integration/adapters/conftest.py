"""The stores that the contract suites run over: SQLite and a folder, and DynamoDB, SSM and S3 on moto and MiniStack."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.adapters.stores import Stores, open_stores
from gateway.ports.stores import ObjectStore
from gateway.settings import load

TABLE = "video-metadata"
SESSIONS = "video-streaming"
BUCKET = "millrace-media"


# What stands for AWS in the contract suites, and the fixture that makes this process its client.
DOUBLES = {"moto": "aws", "ministack": "ministack"}


@pytest.fixture
def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """This process as a client of the moto server, which is empty but for the original's tables and a bucket."""
    import requests

    requests.post(f"{moto_url}/moto-api/reset", timeout=10)
    client_of(moto_url, monkeypatch)
    return moto_url


@pytest.fixture
def ministack(ministack_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """As aws, with MiniStack."""
    client_of(ministack_url, monkeypatch)
    return ministack_url


def client_of(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point this process at an empty double, and make the original's tables and a bucket there."""
    import boto3

    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    make_table(TABLE, "id")
    make_table(SESSIONS, "UUID")
    boto3.client("s3", region_name="eu-central-1").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )


def make_table(table: str, key: str) -> None:
    """A table whose one key is a text."""
    dynamodb().create_table(
        TableName=table,
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def dynamodb() -> Any:
    """A client of the test's own."""
    import boto3

    return boto3.client("dynamodb", region_name="eu-central-1")


@pytest_asyncio.fixture(params=["sqlite", *DOUBLES])
async def stores(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[Stores]:
    """Each kind of store, empty."""
    environ = {"MILLRACE_DATA": str(tmp_path)}
    if request.param in DOUBLES:
        request.getfixturevalue(DOUBLES[request.param])
        environ["MILLRACE_CHANNELS"] = f"dynamodb://{TABLE}"
    async with open_stores(load(environ=environ)) as opened:
        yield opened


@pytest_asyncio.fixture(params=["folder", "s3"])
async def objects(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[ObjectStore]:
    """Each kind of object store, empty."""
    environ = {"MILLRACE_DATA": str(tmp_path / "data")}
    (tmp_path / "data").mkdir()
    if request.param == "s3":
        request.getfixturevalue("aws")
        environ["MILLRACE_OBJECTS"] = f"s3://{BUCKET}"
    async with open_stores(load(environ=environ)) as opened:
        yield opened.objects
