"""A server that speaks S3 (moto), in this process. It checks neither signatures nor expiry: tests read the URLs."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from django.conf import settings
from moto.server import ThreadedMotoServer

from freehold.registry.storage import s3
from freehold.registry.storage.bucket import Location
from tests.factories.ports import free_port

KEYS = {"aws_access_key_id": "access", "aws_secret_access_key": "secret", "region_name": "us-east-1"}


@contextmanager
def s3_server() -> Iterator[str]:
    """Its URL."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it would log every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


def s3_client(url: str) -> Any:
    """A client past all of our own code."""
    return boto3.client("s3", endpoint_url=url, **KEYS)


def variables(place: Location) -> dict[str, str]:
    """The settings of an installation whose object store that bucket is; for another process, its environment."""
    return {
        "S3_BUCKET": place.bucket,
        "S3_PREFIX": "objects",
        "S3_REGION": place.region,
        "S3_ENDPOINT_URL": place.endpoint_url,
        "S3_ACCESS_KEY_ID": place.access_key_id,
        "S3_SECRET_ACCESS_KEY": place.secret_access_key,
        "S3_ADDRESSING_STYLE": place.addressing_style,
    }


@contextmanager
def s3_installation(place: Location) -> Iterator[None]:
    """This process's object store is that bucket."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables(place).items():
            patch.setattr(settings, name, value)
        s3.configured.cache_clear()
        yield
    s3.configured.cache_clear()


def bucket_make(url: str) -> Location:
    """A new bucket that nobody else uses."""
    name = f"tests-{uuid.uuid4().hex[:12]}"
    s3_client(url).create_bucket(Bucket=name)
    return Location(
        bucket=name,
        region="us-east-1",
        endpoint_url=url,
        access_key_id=KEYS["aws_access_key_id"],
        secret_access_key=KEYS["aws_secret_access_key"],
        addressing_style="path",
    )
