"""The stores that the contract suites run over: SQLite and a folder, and DynamoDB, SSM and S3 on a moto server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.adapters import Stores, open_stores
from gateway.hub.ports import ObjectStore
from gateway.settings import load

TABLE = "video-metadata"
BUCKET = "millrace-media"


@pytest.fixture
def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """This process as a client of the moto server, which is empty but for the original's table."""
    import boto3
    import requests

    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    requests.post(f"{moto_url}/moto-api/reset", timeout=10)
    boto3.client("dynamodb", region_name="eu-central-1").create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    boto3.client("s3", region_name="eu-central-1").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    return moto_url


@pytest_asyncio.fixture(params=["sqlite", "dynamodb"])
async def stores(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[Stores]:
    """Each kind of store, empty."""
    environ = {"MILLRACE_DATA": str(tmp_path)}
    if request.param == "dynamodb":
        request.getfixturevalue("aws")
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
