"""An S3 server for the tests of this folder. Whatever needs Django is imported inside the fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from freehold.registry.storage.bucket import Location


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """A server that speaks S3."""
    from tests.fakes.s3 import s3_server

    with s3_server() as url:
        yield url


@pytest.fixture
def s3_location(s3_url: str) -> Location:
    """An empty bucket there."""
    from tests.fakes.s3 import bucket_make

    return bucket_make(s3_url)


@pytest.fixture
def s3_settings(s3_location: Location) -> Iterator[Location]:
    """The installation's store is that bucket."""
    from tests.fakes.s3 import s3_installation

    with s3_installation(s3_location):
        yield s3_location
