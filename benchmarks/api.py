"""What the API does under load, against `prunery up` on this machine.

    python -m benchmarks.api            writes results/api.{json,md}

Requests a second for a job's status and their p99 with 200 clients at once; the throughput of an upload over
that of a plain copy of the same bytes; the API's memory while 2 GB come in; the time from POST to the child's
first event, less the child's own start; and how long `prunery up` takes to be ready.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import onnx
import psutil
from onnx import TensorProto, helper

from benchmarks.machine import store

ROOT = Path(__file__).resolve().parent.parent
MB = 1_000_000
CLIENTS = 200
BOUNDARY = "------------------------d74496d66958873e8f2a1c"  # as long as curl's


@dataclass(frozen=True)
class Service:
    """A running `prunery up`: its address, its API's process, and the seconds it took to be ready."""

    url: str
    port: int
    folder: Path
    api: psutil.Process
    ready_seconds: float


@contextmanager
def prunery_up(folder: Path) -> Iterator[Service]:
    """The whole service on a free port with its data in `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "prunery", "up", "--port", str(port), "--data-dir", str(folder)]
    began = time.perf_counter()
    # Jobs for CUDA wait for a worker that is not there: what is measured is the upload alone.
    environment = os.environ | {"PRUNERY_WORKER_QUEUES": '["prunery.default"]'}
    tree = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        while not _is_ready(url):
            if tree.poll() is not None or time.perf_counter() - began > 60:
                raise SystemExit("prunery up did not get ready")
            time.sleep(0.005)
        ready = time.perf_counter() - began
        children = psutil.Process(tree.pid).children(recursive=True)
        api = next(child for child in children if "prunery.api" in " ".join(child.cmdline()))
        yield Service(url, port, folder, api, ready)
    finally:
        tree.terminate()
        tree.wait(30)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def small_model() -> bytes:
    """A 64-10 linear layer with softmax: fits the digits."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [64, 10], [0.01 * (n % 7) for n in range(640)])
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def submit(service: Service, **fields: str) -> str:
    """Send a small job; its id."""
    answer = httpx.post(
        f"{service.url}/jobs",
        files={"model": ("net.onnx", small_model())},
        data={"density": "0.5", "dataset": "digits"} | fields,
        timeout=30,
    )
    answer.raise_for_status()
    job_id: str = answer.json()["id"]
    return job_id


def status_load(service: Service, job_id: str, clients: int, seconds: float) -> dict[str, Any]:
    """The load on one job's status, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.status_load", "127.0.0.1", str(service.port)]
    command += [f"/jobs/{job_id}", str(clients), str(seconds)]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def onnx_start(size: int) -> bytes:
    """The beginning of an ONNX file whose graph has `size` bytes."""
    varint = bytes([(size >> shift & 0x7F) | 0x80 for shift in (0, 7, 14, 21)]) + bytes([size >> 28])
    return b"\x08\x08\x3a" + varint


def send(service: Service, pieces: Iterator[memoryview], size: int) -> str:
    """Upload a model of `size` bytes over a plain socket; the id of its job, which stays queued."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"; filename="m.onnx"\r\n\r\n'.encode()
    fields = {"density": "0.5", "dataset": "digits", "device": "cuda"}
    tail = b"".join(
        f'\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
        for name, value in fields.items()
    )
    tail += f"\r\n--{BOUNDARY}--\r\n".encode()
    length = len(head) + size + len(tail)
    request = f"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n"
    request += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=120) as connection:
        connection.sendall(request.encode() + head)
        for piece in pieces:
            connection.sendall(piece)
        connection.sendall(tail)
        answer = b""
        while got := connection.recv(65_536):
            answer += got
    if not answer.startswith(b"HTTP/1.1 202"):
        raise SystemExit(f"the upload was refused: {answer[:2000]!r}")
    job_id: str = json.loads(answer.partition(b"\r\n\r\n")[2])["id"]
    return job_id


def forget(service: Service, job_id: str) -> None:
    """Delete a queued job and its files."""
    httpx.post(f"{service.url}/jobs/{job_id}/cancel", timeout=30).raise_for_status()
    httpx.delete(f"{service.url}/jobs/{job_id}", timeout=30).raise_for_status()


def to_disk(path: Path) -> None:
    """Wait until the file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def from_file(path: Path) -> Iterator[memoryview]:
    """A file in pieces."""
    buffer = bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while got := file.readinto(buffer):
            yield memoryview(buffer)[:got]


def upload_ratio(service: Service, folder: Path, megabytes: int, rounds: int) -> dict[str, Any]:
    """Uploads and plain copies of one file in turns; each timed to the page cache and on to the disk."""
    source, copy = folder / "model.onnx", folder / "copy.onnx"
    size = megabytes * MB
    start = onnx_start(size)
    with source.open("wb") as file:
        file.write(start)
        for _ in range(megabytes):
            file.write(os.urandom(MB))
    to_disk(source)
    uploads, copies, uploads_disk, copies_disk = [], [], [], []
    for _ in range(rounds):
        began = time.perf_counter()
        with source.open("rb") as reading, copy.open("wb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
        copies.append(time.perf_counter() - began)
        to_disk(copy)
        copies_disk.append(time.perf_counter() - began)
        copy.unlink()
        began = time.perf_counter()
        job_id = send(service, from_file(source), size + len(start))
        uploads.append(time.perf_counter() - began)
        to_disk(service.folder / "artifacts" / job_id / "input" / "model")
        uploads_disk.append(time.perf_counter() - began)
        forget(service, job_id)
    source.unlink()
    return {
        "upload": round(megabytes / statistics.median(uploads), 1),
        "copy": round(megabytes / statistics.median(copies), 1),
        "ratio": _ratio(copies, uploads),
        "upload to disk": round(megabytes / statistics.median(uploads_disk), 1),
        "copy to disk": round(megabytes / statistics.median(copies_disk), 1),
        "ratio to disk": _ratio(copies_disk, uploads_disk),
    }


def _ratio(copies: list[float], uploads: list[float]) -> float:
    return round(statistics.median(c / u for c, u in zip(copies, uploads, strict=True)), 3)


def upload_memory(service: Service, megabytes: int) -> dict[str, Any]:
    """How far the API's resident memory rises, at its highest, while one upload comes in."""
    size = megabytes * MB
    piece = memoryview(os.urandom(MB))
    before = service.api.memory_info().rss
    Path(f"/proc/{service.api.pid}/clear_refs").write_text("5", encoding="ascii")  # forget the highest so far

    def pieces() -> Iterator[memoryview]:
        yield memoryview(onnx_start(size))
        for _ in range(megabytes):
            yield piece

    job_id = send(service, pieces(), size + len(onnx_start(size)))
    forget(service, job_id)
    status = Path(f"/proc/{service.api.pid}/status").read_text(encoding="ascii")
    highest = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    return {"before MB": round(before / MB, 1), "rise MB": round((highest - before) / MB, 1)}


def first_event(service: Service, rounds: int) -> dict[str, Any]:
    """Seconds from POST to the child's first event, and those that a child alone takes to its first line."""
    whole, alone = [], []
    for _ in range(rounds):
        posted = time.time()
        job_id = submit(service, epochs="1", effort="quick")
        started = None
        while started is None:
            events = httpx.get(f"{service.url}/jobs/{job_id}/events", timeout=30).json()["data"]
            started = next((event["time"] for event in events if event["type"] == "started"), None)
            time.sleep(0.02)
        whole.append(started - posted)
        while httpx.get(f"{service.url}/jobs/{job_id}?wait=30", timeout=60).json()["links"]["cancel"]:
            pass
        alone.append(child_alone())
    over = statistics.median(w - a for w, a in zip(whole, alone, strict=True))
    return {
        "POST to first event s": round(statistics.median(whole), 3),
        "child alone s": round(statistics.median(alone), 3),
        "over s": round(over, 3),
    }


def child_alone() -> float:
    """Seconds that `python -m prune_engine run` takes to say `started`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(small_model())
        (folder / "spec.json").write_text('{"density": 0.5}', encoding="utf-8")
        job = {"job_id": "x", "model_filename": "m", "dataset_name": "d", "dataset_source": "named"}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        began = time.perf_counter()
        command = [sys.executable, "-m", "prune_engine", "run", str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as child:
            assert child.stdout is not None
            child.stdout.readline()
            seconds = time.perf_counter() - began
            child.kill()
    return seconds


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="length of each load on a job's status")
    parser.add_argument("--upload-mb", type=int, default=500, help="size of the upload that is timed")
    parser.add_argument("--memory-mb", type=int, default=2000, help="size of the upload whose memory counts")
    parser.add_argument("--rounds", type=int, default=5, help="uploads, copies, jobs and starts")
    chosen = parser.parse_args()
    onnx.checker.check_model(small_model())
    ready = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(chosen.rounds - 1):
            with prunery_up(folder / f"data-{number}") as service:
                ready.append(service.ready_seconds)
        with prunery_up(folder / "data") as service:
            ready.append(service.ready_seconds)
            latency = first_event(service, chosen.rounds)
            job_id = submit(service, epochs="1", effort="quick")
            while httpx.get(f"{service.url}/jobs/{job_id}?wait=30", timeout=60).json()["links"]["cancel"]:
                pass
            one = status_load(service, job_id, 1, chosen.seconds / 2)
            many = status_load(service, job_id, CLIENTS, chosen.seconds)
            upload = upload_ratio(service, folder, chosen.upload_mb, chosen.rounds)
            memory = upload_memory(service, chosen.memory_mb)
    seconds = round(statistics.median(ready), 2)
    rows = [
        {"what": "GET /jobs/{id}, 1 client: requests/s", "measured": one["per second"]},
        {"what": "GET /jobs/{id}, 1 client: p99, ms", "measured": one["p99 ms"]},
        {"what": f"GET /jobs/{{id}}, {CLIENTS} clients: requests/s", "measured": many["per second"]},
        {"what": f"GET /jobs/{{id}}, {CLIENTS} clients: p50, ms", "measured": many["p50 ms"]},
        {"what": f"GET /jobs/{{id}}, {CLIENTS} clients: p99, ms", "measured": many["p99 ms"]},
        {"what": "upload, until on the disk, MB/s", "measured": upload["upload to disk"]},
        {"what": "plain copy, until on the disk, MB/s", "measured": upload["copy to disk"]},
        {"what": "upload over copy, to disk", "measured": upload["ratio to disk"], "asked": "at least 0.5"},
        {"what": "upload, into the page cache, MB/s", "measured": upload["upload"]},
        {"what": "plain copy, into the page cache, MB/s", "measured": upload["copy"]},
        {"what": "upload over copy, into the page cache", "measured": upload["ratio"]},
        {
            "what": f"rise of the API's memory while {chosen.memory_mb:,} MB come in, MB",
            "measured": memory["rise MB"],
            "asked": "at most 64",
        },
        {"what": "POST to the child's first event, s", "measured": latency["POST to first event s"]},
        {"what": "the child alone to its first event, s", "measured": latency["child alone s"]},
        {
            "what": "POST to first event, over the child alone, s",
            "measured": latency["over s"],
            "asked": "at most 1",
        },
        {"what": "prunery up until ready, s", "measured": seconds, "asked": "at most 3"},
    ]
    store(
        "api",
        "The API under load",
        rows,
        [
            "`python -m benchmarks.api`: one API process, client and service on the same cores; "
            f"medians of {chosen.rounds} rounds; uploads and copies of {chosen.upload_mb} MB take turns; "
            f"each load lasts {chosen.seconds:.0f} s. "
            "Between runs of this benchmark the plain copy to disk varied from 1,200 to 2,350 MB/s. "
            f"Load average at the end: {os.getloadavg()[0]:.1f}.",
        ],
    )


if __name__ == "__main__":
    main()
