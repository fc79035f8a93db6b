"""Many clients at once on one API process, with keys: the load that the service has to stand.

    python -m benchmarks.load            writes results/load.{json,md}; about ten minutes
    python -m benchmarks.load --quick    the same in one short round, printed only

Real uvicorn, real Valkey with its append-only file, no worker; every request carries a key whose requests are
counted. Each figure that is asked for is a ratio of two that are measured side by side.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.api import MB, ROOT, onnx_start, small_model
from benchmarks.machine import store
from jobs.keys import KeyStore, Limits, Scope
from jobs.record import DatasetRef, Job, ModelFile, new_job_id, now
from jobs.settings import Settings
from jobs.store import JobStore
from prune_engine.events import Progress
from prune_engine.spec import PruneSpec
from prunery.valkey import start_server

WATCHERS, POLLERS, JOBS = 500, 200, 50
FEW, MANY = 10, 10_000
UPLOADS, UPLOAD_MB = 100, 50
PLENTY = Limits(requests_per_minute=10_000_000, active_jobs=1_000_000, stored_bytes=10**14)


@dataclass(frozen=True)
class Api:
    """A running API process and a key for it."""

    port: int
    process: psutil.Process
    settings: Settings
    token: str

    @property
    def key_id(self) -> str:
        """The key's id: what its jobs belong to."""
        return self.token.split("_")[1]

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[float, Any]:
        """Seconds that a request took on a connection of its own, and its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = {"Authorization": f"Bearer {self.token}"} | ({"Content-Type": kind} if kind else {})
        connection.connect()
        began = time.perf_counter()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        took = time.perf_counter() - began
        connection.close()
        if answer.status not in (200, 202):
            raise SystemExit(f"{method} {path}: {answer.status} {content[:500]!r}")
        return took, json.loads(content)


@contextlib.contextmanager
def api(redis_url: str, folder: Path) -> Iterator[Api]:
    """One API process over a prefix and a folder of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(
        _env_file=None,
        redis_url=redis_url,
        redis_prefix=f"load-{secrets.token_hex(4)}:",
        data_dir=folder,
        port=port,
        auth="required",
    )
    keys = KeyStore(settings)
    token = str(keys.create("load", [Scope.JOBS_WRITE], limits=PLENTY)[1])
    keys.close()
    process = subprocess.Popen(
        [sys.executable, "-m", "service.server"],
        cwd=ROOT,
        env=os.environ | settings.environment(),
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit("the API did not start")
            time.sleep(0.05)
        yield Api(port, psutil.Process(process.pid), settings, token)
    finally:
        process.terminate()
        process.wait(30)


def a_job(owner: str | None) -> Job:
    """A queued job whose files nobody looks for."""
    return Job(
        id=new_job_id(),
        owner=owner,
        spec=PruneSpec(density=0.1),
        model=ModelFile(filename="net.onnx", format="onnx", bytes=3, sha256="00" * 32),
        dataset=DatasetRef(source="named", name="digits"),
        created_at=now(),
    )


def clients(to: Api, jobs: list[str], watchers: int, pollers: int, interval: float, seconds: float) -> Any:
    """The load's outcome, from a process of its own."""
    asked = {
        "port": to.port,
        "token": to.token,
        "jobs": jobs,
        "watchers": watchers,
        "pollers": pollers,
        "interval": interval,
        "seconds": seconds,
    }
    command = [sys.executable, "-m", "benchmarks.load_clients", json.dumps(asked)]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def watching_and_polling(redis_url: str, folder: Path, seconds: float) -> dict[str, Any]:
    """500 live streams and 200 clients that ask each second, beside one that has the service for itself."""
    with api(redis_url, folder) as started:
        jobs_store = JobStore(started.settings)
        ids = []
        for _ in range(JOBS):
            job = a_job(started.key_id)
            jobs_store.create(job)
            jobs_store.start(job.id, "worker")
            ids.append(job.id)
        alone = clients(started, ids, 0, 1, 0.02, max(5.0, seconds / 4))
        stop = threading.Event()
        beating = threading.Thread(target=_make_progress, args=(jobs_store, ids, stop))
        beating.start()
        many = clients(started, ids, WATCHERS, POLLERS, 1.0, seconds)
        stop.set()
        beating.join()
        jobs_store.close()
    return {
        "alone p99": alone["p99 ms"],
        "p99": many["p99 ms"],
        "ratio": round(many["p99 ms"] / alone["p99 ms"], 2),
        "errors": many["errors"] + alone["errors"],
        "requests": many["requests"],
        "events": many["events"],
        "first errors": many["first errors"],
    }


def _make_progress(jobs_store: JobStore, ids: list[str], stop: threading.Event) -> None:
    """Each job gets an event every two seconds, as a worker would send them."""
    step = 0
    while not stop.is_set():
        step += 1
        for job_id in ids:
            progress = Progress(fraction=0.5, step=step, total_steps=10_000, eta_seconds=9.0)
            event = {"time": time.time(), "type": "progress", "progress": progress.model_dump()}
            jobs_store.update(job_id, "pruning", progress, events=(event,))
            if stop.wait(2 / len(ids)):
                return


def queued_jobs(redis_url: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Listing and submitting with 10 and with 10,000 jobs in the queue, in turns, on two API processes."""
    with api(redis_url, folder / "few") as few, api(redis_url, folder / "many") as many:
        for one, count in ((few, FEW), (many, MANY)):
            jobs_store = JobStore(one.settings)
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                # A tenth is the key's own, the rest somebody else's.
                owners = [one.key_id if number % 10 == 0 else "somebody" for number in range(count)]
                list(pool.map(lambda owner, to=jobs_store: to.create(a_job(owner)), owners))
            jobs_store.close()
        took: dict[str, list[float]] = {
            f"{what} {size}": [] for what in ("list", "submit") for size in ("few", "many")
        }
        boundary = "load"
        body = _form(boundary)
        kind = f"multipart/form-data; boundary={boundary}"
        for _ in range(rounds):
            for size, one in (("few", few), ("many", many)):
                took[f"list {size}"].append(one.ask("GET", "/jobs?limit=20")[0])
                took[f"submit {size}"].append(one.ask("POST", "/jobs", body, kind)[0])
    median = {name: 1e3 * statistics.median(values) for name, values in took.items()}
    return {
        "list few ms": round(median["list few"], 2),
        "list many ms": round(median["list many"], 2),
        "list ratio": round(median["list many"] / median["list few"], 2),
        "submit few ms": round(median["submit few"], 2),
        "submit many ms": round(median["submit many"], 2),
        "submit ratio": round(median["submit many"] / median["submit few"], 2),
    }


def _form(boundary: str) -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="model"; filename="net.onnx"\r\n\r\n'.encode()
    ]
    parts += [small_model(), b"\r\n"]
    for name, value in (("density", "0.5"), ("dataset", "digits")):
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        )
    return b"".join([*parts, f"--{boundary}--\r\n".encode()])


def uploads_at_once(redis_url: str, folder: Path, uploads: int) -> dict[str, Any]:
    """How far the API's memory rises while 100 uploads of 50 MB come in at once, and while 100 of 5 MB do."""
    rises, seconds = {}, 0.0
    for megabytes in (UPLOAD_MB // 10, UPLOAD_MB):
        with api(redis_url, folder / str(megabytes)) as started:
            started.ask("POST", "/jobs", _form("load"), "multipart/form-data; boundary=load")  # warm
            before = started.process.memory_info().rss
            Path(f"/proc/{started.process.pid}/clear_refs").write_text("5", encoding="ascii")
            began = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(uploads) as pool:
                answers = pool.map(_upload, [started] * uploads, [megabytes] * uploads)
                refused = [answer for answer in answers if answer]
            seconds = time.perf_counter() - began
            status = Path(f"/proc/{started.process.pid}/status").read_text(encoding="ascii")
            highest = next(
                int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")
            )
            rises[megabytes] = (highest - before) / MB
            if refused:
                raise SystemExit(f"{len(refused)} uploads were refused: {refused[0]}")
    return {
        "small rise MB": round(rises[UPLOAD_MB // 10], 1),
        "rise MB": round(rises[UPLOAD_MB], 1),
        "MB/s": round(uploads * UPLOAD_MB / seconds, 1),
    }


def _upload(to: Api, megabytes: int) -> str:
    """Upload a model of that size; what was said, unless it was taken."""
    size = megabytes * MB
    head = b'--f\r\nContent-Disposition: form-data; name="model"; filename="m.onnx"\r\n\r\n' + onnx_start(
        size
    )
    tail = b"".join(
        f'\r\n--f\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
        for name, value in (("density", "0.5"), ("dataset", "digits"))
    )
    tail += b"\r\n--f--\r\n"
    request = (
        f"POST /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {to.token}\r\nConnection: close\r\n"
        f"Content-Length: {len(head) + size + len(tail)}\r\n"
        "Content-Type: multipart/form-data; boundary=f\r\n\r\n"
    )
    piece = bytes(256 * 1024)
    with socket.create_connection(("127.0.0.1", to.port), timeout=300) as connection:
        connection.sendall(request.encode() + head)
        left = size
        while left:
            left -= connection.send(piece[: min(left, len(piece))])
        connection.sendall(tail)
        answer = b""
        while got := connection.recv(65_536):
            answer += got
    return "" if answer.startswith(b"HTTP/1.1 202") else answer[:500].decode(errors="replace")


def rows_of(watched: list[Any], queued: list[Any], uploaded: list[Any]) -> list[dict[str, Any]]:
    """The table: medians of the rounds."""

    def median(found: list[Any], name: str) -> float:
        return round(statistics.median(one[name] for one in found), 2)

    return [
        {"what": "GET /jobs/{id}, one client alone: p99, ms", "measured": median(watched, "alone p99")},
        {
            "what": f"the same beside {WATCHERS} live streams, {POLLERS} clients asking each second: p99, ms",
            "measured": median(watched, "p99"),
        },
        {"what": "ratio of the two", "measured": median(watched, "ratio"), "asked": "under 10"},
        {
            "what": "errors, in all rounds",
            "measured": sum(one["errors"] for one in watched),
            "asked": "none",
        },
        {"what": "events sent to the streams, in a round", "measured": median(watched, "events")},
        {"what": f"GET /jobs with {FEW} queued jobs, ms", "measured": median(queued, "list few ms")},
        {"what": f"GET /jobs with {MANY:,} queued jobs, ms", "measured": median(queued, "list many ms")},
        {"what": "ratio of the two", "measured": median(queued, "list ratio"), "asked": "at most 1.5"},
        {"what": f"POST /jobs with {FEW} queued jobs, ms", "measured": median(queued, "submit few ms")},
        {"what": f"POST /jobs with {MANY:,} queued jobs, ms", "measured": median(queued, "submit many ms")},
        {"what": "ratio of the two", "measured": median(queued, "submit ratio"), "asked": "at most 1.5"},
        {
            "what": f"rise of the API's memory, {UPLOADS} uploads of {UPLOAD_MB // 10} MB at once, MB",
            "measured": median(uploaded, "small rise MB"),
        },
        {
            "what": f"rise of the API's memory, {UPLOADS} uploads of {UPLOAD_MB} MB at once, MB",
            "measured": median(uploaded, "rise MB"),
            "asked": "flat",
        },
        {"what": "those uploads together, MB/s", "measured": median(uploaded, "MB/s")},
    ]


def _go_ahead(ahead: bool) -> None:
    """Let this process, and those that it starts from now on, run before others (or no longer)."""
    policy, priority = (os.SCHED_RR, 1) if ahead else (os.SCHED_OTHER, 0)
    os.sched_setscheduler(0, policy, os.sched_param(priority))


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the figures are their medians")
    parser.add_argument("--seconds", type=float, default=60, help="length of the load of a round")
    parser.add_argument("--only", choices=["watch", "queue", "upload"], help="one part, printed only")
    parser.add_argument("--quick", action="store_true", help="one short round, printed only")
    parser.add_argument("--ahead", action="store_true", help="before other work of this machine; needs root")
    chosen = parser.parse_args()
    rounds, seconds = (1, 15.0) if chosen.quick else (chosen.rounds, chosen.seconds)
    watched, queued, uploaded = [], [], []
    with tempfile.TemporaryDirectory(prefix="load-") as name:
        folder = Path(name)
        _go_ahead(chosen.ahead)
        server = start_server(folder / "valkey")
        server.wait(30)
        try:
            for number in range(rounds):
                if chosen.only in (None, "watch"):
                    watched.append(watching_and_polling(server.url, folder / f"w{number}", seconds))
                    print(watched[-1], flush=True)
                if chosen.only in (None, "queue"):
                    queued.append(queued_jobs(server.url, folder / f"q{number}", 100))
                    print(queued[-1], flush=True)
                if chosen.only in (None, "upload"):
                    _go_ahead(False)  # memory is what counts here, and it would take all the processors
                    with tempfile.TemporaryDirectory(prefix="load-") as uploads:
                        uploaded.append(uploads_at_once(server.url, Path(uploads), UPLOADS))
                    print(uploaded[-1], flush=True)
                    _go_ahead(chosen.ahead)
        finally:
            server.stop()
    if chosen.only or chosen.quick:
        return
    store(
        "load",
        "Many clients at once on one API process",
        rows_of(watched, queued, uploaded),
        [
            f"`python -m benchmarks.load`: medians of {rounds} rounds, {seconds:.0f} s of load each; "
            "clients, API and Valkey on the same cores. Every request carries a key whose requests are "
            f"counted. {JOBS} running jobs get an event every two seconds each. The two API processes with "
            f"{FEW} and {MANY:,} jobs are asked in turns; a tenth of the jobs is the key's own. "
            f"Load average at the end: {os.getloadavg()[0]:.1f}."
            + (
                " Other work was going on; all but the uploads ran before it (`--ahead`, SCHED_RR)."
                if chosen.ahead
                else ""
            ),
        ],
    )


if __name__ == "__main__":
    main()
