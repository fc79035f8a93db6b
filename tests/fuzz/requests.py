"""Requests by the thousand to a real API over a real Valkey: no answer of 5xx, and no hang."""

from __future__ import annotations

import http.client
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings

from jobs.settings import Settings
from prunery.valkey import start_server
from service.app import create_app
from tests.fuzz.mutations import raw
from tests.fuzz.runner import documented, file_of
from tests.service.samples import npz, small_onnx
from tests.service.test_process import process

LIMIT = 20.0  # seconds
CHILDREN_LIMIT = 100.0  # of an inspection there are 60, after a place among those under way
ON_PURPOSE = (502, 503, 507)
BOUNDARY = b"frontier"
_NAMES = (
    b"model",
    b"dataset",
    b"density",
    b"spec",
    b"tokenizer",
    b"epochs",
    b"evil",
    b"",
    b"a" * 3000,
    b"\xff\x00",
)
_HEADS = (
    b"Content-Disposition: form-data", b"Content-Disposition: attachment", b"Content-Type: text/plain",
    b"Content-Transfer-Encoding: base64", b"X: " + b"y" * 20_000, b"no colon", b"\x00: \x00", b"",
)  # fmt: skip


@dataclass
class Tally:
    """What came back."""

    answers: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    limit: float = LIMIT

    def note(self, what: str, status: int, body: bytes, content_type: str, seconds: float) -> None:
        """One answer; what should not have come is a failure."""
        self.answers[status] += 1
        self.slowest = max(self.slowest, seconds)
        if status >= 500 and status not in ON_PURPOSE:
            self.failures.append(f"{what}: {status} {body[:300]!r}")
        if seconds > self.limit:
            self.failures.append(f"{what}: {seconds:.1f} s")
        if status >= 400 and content_type.startswith("application/problem+json"):
            code = str(httpx.Response(status, content=body).json()["code"])
            self.codes[code] += 1
            if code not in documented() | {"internal_error"}:
                self.failures.append(f"{what}: the code {code} is not documented")


@contextmanager
def served() -> Iterator[str]:
    """The URL of an API in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="prunery-fuzz-") as folder:
        server = start_server(Path(folder) / "valkey")
        server.wait(10.0)
        try:
            chosen = Settings(_env_file=None, redis_url=server.url, data_dir=Path(folder) / "data")
            with process(chosen) as (_, url):
                yield url
        finally:
            server.stop()


def by_schema(url: str, count: int, tally: Tally) -> None:
    """Cases that schemathesis makes of the OpenAPI document, valid and not, spread over all operations."""
    schema = schemathesis.openapi.from_dict(create_app(Settings(_env_file=None)).openapi())
    operations = [result.ok() for result in schema.get_all_operations()]
    with httpx.Client(base_url=url, timeout=LIMIT + 10) as client:
        ids = _some_jobs(client)
        for place, operation in enumerate(operations):
            each = count // len(operations) + (place < count % len(operations))
            _cases(operation, each, url, ids, tally)


def _cases(operation: object, count: int, url: str, ids: list[str], tally: Tally) -> None:
    strategy = operation.as_strategy()  # type: ignore[attr-defined]
    made = 0

    @seed(5)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=strategy)
    def ask(case: schemathesis.Case) -> None:
        nonlocal made
        made += 1
        if "job_id" in case.path_parameters and made % 2:
            case.path_parameters["job_id"] = ids[made % len(ids)]
        for name in ("wait", "timeout"):
            if name in (case.query or {}):
                case.query[name] = 0
        began = time.monotonic()
        answer = case.call(base_url=url, timeout=LIMIT + 10)
        what = f"{case.method} {case.formatted_path} {str(case.query)[:100]}"
        tally.note(what, answer.status_code, answer.content,
                   answer.headers.get("content-type", [""])[0], time.monotonic() - began)  # fmt: skip

    ask()


def _some_jobs(client: httpx.Client) -> list[str]:
    found = []
    for _ in range(4):
        answer = client.post(
            "/jobs", files={"model": ("m.onnx", small_onnx())}, data={"density": "0.5", "dataset": "digits"}
        )
        found.append(answer.json()["id"])
    client.post(f"/jobs/{found[-1]}/cancel")
    return found


def by_multipart(url: str, numbers: range, tally: Tally) -> None:
    """Forms that are broken in their structure, sent as they are."""
    address = urlsplit(url).netloc
    for number in numbers:
        dice = random.Random(f"multipart-{number}")
        body = form(dice)
        boundary = dice.choice(("frontier",) * 6 + ("other", "", "x" * 300))
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        if dice.random() < 0.05:
            kinds = ("text/plain", "multipart/mixed; boundary=frontier", "multipart/form-data")
            headers["Content-Type"] = dice.choice(kinds)
        if dice.random() < 0.05:
            headers["Content-Length"] = str(max(len(body) + dice.choice((-5, -1)), 0))
        began = time.monotonic()
        connection = http.client.HTTPConnection(address, timeout=LIMIT + 10)
        try:
            connection.request("POST", "/jobs", body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            tally.failures.append(f"multipart {number}: {type(error).__name__}: {error}")
            continue
        finally:
            connection.close()
        kind = answer.headers.get("content-type", "")
        tally.note(f"multipart {number}", answer.status, content, kind, time.monotonic() - began)


def form(dice: random.Random) -> bytes:
    """A form of some parts, whose structure is sound about half of the time."""
    files = (small_onnx(), npz(x=[[1.0]] * 9, y=[0] * 9), b"", b"--frontier", dice.randbytes(50))
    parts = []
    for name, content in ((b"model", dice.choice(files)), (b"density", b"0.5"), (b"dataset", b"digits")):
        head = b'Content-Disposition: form-data; name="' + name + b'"'
        if name == b"model":
            head += b'; filename="m.onnx"'
        parts.append([head, content])
    for _ in range(dice.choice((0, 1, 1, 2))):
        one = dice.choice(parts)
        way = dice.randrange(7)
        if way == 0:
            one[0] = dice.choice(_HEADS)
        elif way == 1:
            one[0] = one[0].replace(dice.choice((b"model", b"density", b"dataset")), dice.choice(_NAMES))
        elif way == 2:
            one[1] = dice.choice(
                (b"", b"\r\n--frontier", b"NaN", b"1e999", b"{" * 5000, b"\xff\xfe", b"0" * 100_000)
            )
        elif way == 3:
            parts.append(list(one))
        elif way == 4:
            one[0] += dice.choice(
                (b"\r\n" + dice.choice(_HEADS), b'; filename="../../x"', b"; filename*=utf-8''%ff", b';"')
            )
        elif way == 5:
            one[0] = one[0].replace(b'"', dice.choice((b"", b"'", b'\\"')))
        else:
            parts.remove(one)
            if not parts:
                parts.append([b"", b""])
    body = b"".join(b"--frontier\r\n" + head + b"\r\n\r\n" + content + b"\r\n" for head, content in parts)
    body += dice.choice(
        (b"--frontier--\r\n",) * 5 + (b"", b"--frontier", b"--frontier--", b"\r\n--frontier--x")
    )
    return raw(body, dice) if dice.random() < 0.3 else body


def through_children(url: str, numbers: range, tally: Tally) -> None:
    """Mutated files through `POST /models/inspect`, whose children run in the sandbox of this machine."""
    kinds = ("onnx", "torchscript", "hostile", "bundle", "onnx", "pt2")
    with httpx.Client(base_url=url, timeout=120) as client:
        for number in numbers:
            kind = kinds[number % len(kinds)]
            began = time.monotonic()
            files = {"model": ("m", file_of(kind, 10**6 + number))}
            answer = client.post("/models/inspect", files=files, data={"density": "0.5"})
            took = time.monotonic() - began
            kind_of_answer = answer.headers.get("content-type", "")
            tally.note(f"{kind} {number}", answer.status_code, answer.content, kind_of_answer, took)
