"""A page of another site in a real browser, against a service without keys on the same machine."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser import chromium
from tests.service.conftest import Api
from tests.service.samples import small_onnx

# What a page can do: build a job's form and send it wherever it likes.
SUBMIT = """async ([url, model, mode]) => {
    const form = new FormData();
    form.append("model", new Blob([Uint8Array.from(model)]), "net.onnx");
    form.append("density", "0.5");
    form.append("dataset", "digits");
    return (await fetch(url, {method: "POST", body: form, mode: mode})).status;
}"""


@pytest.fixture(scope="module")
def fooled() -> Iterator[Browser]:
    """A browser for which somebody's name leads to this machine. Ends with the module, as `browser`."""
    with chromium("--host-resolver-rules=MAP evil.test 127.0.0.1", "--no-proxy-server") as running:
        yield running


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """Somebody's site."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!DOCTYPE html><title>win a prize</title>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://evil.test:{server.server_port}/"
    server.shutdown()
    thread.join(5)


@pytest.fixture
def model() -> list[int]:
    return list(small_onnx())


def test_it_cannot_send_a_job(fooled: Browser, site: str, api: Api, model: list[int]) -> None:
    page = fooled.new_page()
    page.goto(site)
    for address in (api.url, api.url.replace("127.0.0.1", "localhost")):
        page.evaluate(SUBMIT, [f"{address}/jobs", model, "no-cors"])
    assert api.client.get("/jobs").json()["data"] == []
    assert api.stored() == []
    page.close()


def test_it_cannot_read_an_answer_by_a_name_of_its_own(
    fooled: Browser, site: str, api: Api, model: list[int]
) -> None:
    job_id = api.submit().json()["id"]
    own = f"{site.rpartition(':')[0]}:{api.url.rpartition(':')[2]}"
    page = fooled.new_page()
    page.goto(f"{own}/docs")  # from here on, the page and the service are of one origin to the browser
    said = page.evaluate("async () => { const a = await fetch('/jobs'); return [a.status, await a.text()]; }")
    assert said[0] == 403
    assert job_id not in said[1]
    assert page.evaluate(SUBMIT, ["/jobs", model, "same-origin"]) == 403
    page.close()


def test_the_service_s_own_page_may(fooled: Browser, api: Api, model: list[int]) -> None:
    page = fooled.new_page()
    page.goto(f"{api.url}/docs")
    assert page.evaluate(SUBMIT, ["/jobs", model, "same-origin"]) == 202
    assert len(api.client.get("/jobs").json()["data"]) == 1
    page.close()
