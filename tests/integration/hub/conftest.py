"""A real web process (granian over freehold.config.asgi), a tenant with an API key, and the real huggingface_hub.

Whatever needs Django is imported inside the fixtures: conftests are loaded before Django is set up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import HfApi

if TYPE_CHECKING:
    from tests.integration.hub.live import Customer, Web


@pytest.fixture(scope="session")
def web(django_db_setup: None) -> Iterator[Web]:
    """The web process of the whole session."""
    from tests.integration.hub.live import web_process

    with web_process() as running:
        yield running


@pytest.fixture
def acme(committed_db: None) -> Customer:
    """A customer."""
    from tests.integration.hub.live import customer

    return customer("acme")


@pytest.fixture
def rival(acme: Customer) -> Customer:
    """Another customer, who is up to no good."""
    from tests.integration.hub.live import customer

    return customer("rival")


@pytest.fixture
def api(web: Web, acme: Customer) -> HfApi:
    """The real client, as `acme`."""
    return HfApi(endpoint=web.url, token=acme.secret)


@pytest.fixture
def rival_api(web: Web, rival: Customer) -> HfApi:
    """The real client, as `rival`."""
    return HfApi(endpoint=web.url, token=rival.secret)


@pytest.fixture
def repo(api: HfApi) -> str:
    """An empty model of `acme`."""
    return str(api.create_repo("acme/tiny").repo_id)
