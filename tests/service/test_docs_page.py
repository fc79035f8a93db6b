"""`/docs` in a real browser: every operation is there, and nothing comes from elsewhere."""

from __future__ import annotations

from playwright.sync_api import Browser

from tests.service.conftest import Api


def test_every_operation_is_shown_without_the_internet(api: Api, browser: Browser) -> None:
    page = browser.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    base = str(api.client.base_url).rstrip("/")
    page.goto(f"{base}/docs")
    page.locator(".opblock").first.wait_for()
    paths = api.client.get("/openapi.json").json()["paths"]
    assert page.locator(".opblock").count() == sum(len(methods) for methods in paths.values())
    assert [url for url in requests if not url.startswith((base, "data:"))] == []
    assert complaints == []
    page.close()
