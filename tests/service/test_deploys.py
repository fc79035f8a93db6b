"""The API is replaced while clients upload and watch: nobody is cut off, and nobody misses an event."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx

from jobs.record import JobError
from jobs.settings import Settings
from jobs.store import JobStore
from prune_engine.events import Progress
from tests.service.samples import small_onnx
from tests.service.test_process import process
from tests.stores import a_job

_WHY = JobError(code="worker_lost", message="gone")
LIVE = {"Accept": "text/event-stream"}


def follow(urls: list[str], job_id: str, seen: list[tuple[str, str]]) -> None:
    """What a browser's EventSource does: reconnect with the last id, until there is nothing more (204)."""
    last: dict[str, str] = {}
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with (
            contextlib.suppress(httpx.TransportError),
            httpx.stream(
                "GET", f"{urls[-1]}/jobs/{job_id}/events", headers=LIVE | last, timeout=30
            ) as stream,
        ):
            if stream.status_code == 204:
                return
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    last = {"Last-Event-ID": event["id"]}
                    seen.append((event["id"], event["type"]))
        time.sleep(0.1)


def test_who_watches_live_misses_no_event_when_the_api_is_replaced(
    settings: Settings, store: JobStore
) -> None:
    job = a_job()
    store.create(job)
    store.start(job.id)
    urls: list[str] = []
    seen: list[tuple[str, str]] = []
    over = threading.Event()
    watching: Future[None] | None = None

    def work() -> None:
        step = 0
        while not over.wait(0.02):
            step += 1
            event = {"type": "progress", "time": time.time(), "step": step}
            store.update(job.id, "pruning", Progress(step=step), events=[event])

    with ThreadPoolExecutor(2) as pool, contextlib.ExitStack() as apis:
        working = pool.submit(work)
        try:
            for _ in range(3):
                started, url = apis.enter_context(process(settings))
                urls.append(url)
                watching = watching or pool.submit(follow, urls, job.id, seen)
                before = len(seen)
                until = time.monotonic() + 30
                while len(seen) < before + 20:
                    assert time.monotonic() < until, "no event came"
                    time.sleep(0.05)
                if len(urls) < 3:
                    started.send_signal(signal.SIGTERM)
                    assert started.wait(15) in (0, -signal.SIGTERM)
        finally:
            over.set()
        working.result(30)
        store.give_back(job.id, _WHY, most_failures=1)
        assert watching is not None
        watching.result(60)
    told = [(stored.id, stored.event["type"]) for stored in store.events(job.id, limit=100_000)]
    assert seen == told


def test_an_upload_that_is_under_way_is_finished_before_the_api_ends(settings: Settings) -> None:
    form = (
        b'--f\r\nContent-Disposition: form-data; name="density"\r\n\r\n0.5\r\n'
        b'--f\r\nContent-Disposition: form-data; name="dataset"\r\n\r\ndigits\r\n'
        b'--f\r\nContent-Disposition: form-data; name="model"; filename="m.onnx"\r\n\r\n'
        + small_onnx()
        + b"\r\n--f--\r\n"
    )
    with process(settings) as (started, url):
        told = threading.Event()

        def slowly() -> Iterator[bytes]:
            yield form[:200]
            told.set()
            time.sleep(3.0)
            yield form[200:]

        headers = {"Content-Type": "multipart/form-data; boundary=f", "Content-Length": str(len(form))}
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(httpx.post, f"{url}/jobs", content=slowly(), headers=headers, timeout=60)
            assert told.wait(20)
            time.sleep(0.5)
            started.send_signal(signal.SIGTERM)
            assert sending.result(60).status_code == 202
        assert started.wait(20) in (0, -signal.SIGTERM)
