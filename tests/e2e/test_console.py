"""A customer in a real browser, against the whole product: sign in, watch, look, call, see the bill."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

if TYPE_CHECKING:
    from tests.e2e.conftest import Onebox

pytestmark = [pytest.mark.browser, pytest.mark.engine, pytest.mark.timeout(600)]

_SECONDS = 20_000  # milliseconds, to Playwright: readiness and metering are polled, never slept for


@pytest.fixture
def page() -> Iterator[Page]:
    """A fresh browser window. Whatever the page's policy blocks or its scripts stumble over fails the test."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page()
        page.set_default_timeout(_SECONDS)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        yield page
        browser.close()
    assert complaints == []


def _sign_in(page: Page, onebox: Onebox) -> None:
    login = next(login for login in onebox.facts["logins"] if login["role"] == "admin")
    page.goto(onebox.facts["console_url"])
    page.get_by_label("Email address").fill(login["email"])
    page.get_by_label("Password").fill(login["password"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Endpoints")).to_be_visible()


def _call(onebox: Onebox) -> int:
    """Embeds a sentence through the gateway; returns its prompt tokens."""
    answer = httpx.post(
        f"{onebox.facts['gateway_url']}/v1/embeddings",
        headers={"Authorization": f"Bearer {onebox.facts['api_key']}"},
        json={"model": onebox.facts["models"]["embedding"], "input": "A house of one's own."},
        timeout=60,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return int(answer.json()["usage"]["prompt_tokens"])


def _number(page: Page, label: str) -> int:
    """A figure of the endpoint's usage."""
    text = page.locator("#endpoint-usage div", has=page.get_by_text(label, exact=True)).locator("dd").inner_text()
    return int(text.split()[0].replace(",", ""))


def test_a_customer_sees_both_endpoints_ready_and_what_a_call_costs(onebox: Onebox, page: Page) -> None:
    _sign_in(page, onebox)
    rows = page.locator("#endpoint-rows tr")
    expect(rows).to_have_count(2)
    for name in onebox.facts["models"].values():
        row = rows.filter(has=page.get_by_role("link", name=name.partition("/")[2], exact=True))
        expect(row.get_by_text("Ready", exact=True)).to_be_visible(timeout=_SECONDS)

    name = onebox.facts["models"]["embedding"]
    page.get_by_role("link", name=name.partition("/")[2], exact=True).click()
    expect(page.locator("#model-name")).to_have_text(name)
    expect(page.locator("#call-curl")).to_contain_text(f"{onebox.facts['gateway_url']}/v1/embeddings")

    requests, tokens = _number(page, "Requests"), _number(page, "Prompt tokens")
    spent = _call(onebox)
    figures = page.locator("#endpoint-usage")
    expect(figures.get_by_text(f"{requests + 1:,}", exact=True).first).to_be_visible(timeout=_SECONDS)
    assert _number(page, "Requests") == requests + 1
    assert _number(page, "Prompt tokens") == tokens + spent
    expect(figures).to_contain_text("EUR")

    page.get_by_role("link", name="Usage").click()
    expect(page.get_by_role("link", name=name.partition("/")[2], exact=True)).to_be_visible()


def test_a_new_key_is_shown_once_calls_the_gateway_and_is_revoked(onebox: Onebox, page: Page) -> None:
    _sign_in(page, onebox)
    page.get_by_role("link", name="API keys").click()
    page.get_by_label("Name").fill("browser test")
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("#secret").inner_text()
    models = f"{onebox.facts['gateway_url']}/v1/models"
    with httpx.Client(headers={"Authorization": f"Bearer {secret}"}, trust_env=False, timeout=10) as client:
        _until_status(page, client, models, 200)
        page.get_by_role("link", name="I have copied it").click()
        expect(page.locator("body")).not_to_contain_text(secret)
        page.get_by_role("link", name="Revoke browser test").click()
        page.get_by_role("button", name="Revoke the key").click()
        expect(page.get_by_text("The key “browser test” is revoked")).to_be_visible()
        _until_status(page, client, models, 401)


def test_a_narrow_screen_needs_no_sideways_scrolling(onebox: Onebox, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    _sign_in(page, onebox)
    links = page.locator("#endpoint-rows a")
    addresses = [links.nth(index).get_attribute("href") for index in range(links.count())]
    for path in [
        *addresses,
        "/console/endpoints",
        "/console/models",
        "/console/usage",
        "/console/keys",
        "/console/imports",
        "/console/catalog",
        "/console/storage",
    ]:
        page.goto(f"{onebox.facts['console_url']}{path}")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path


def _until_status(page: Page, client: httpx.Client, url: str, status: int) -> None:
    """Gateways follow within moments; the browser's clock paces the asking."""
    for _ in range(100):
        if client.get(url).status_code == status:
            return
        page.wait_for_timeout(100)
    pytest.fail(f"{url} did not answer {status} within ten seconds")
