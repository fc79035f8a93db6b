"""`make demo`: train a small net, prune it over HTTP on a service started for it, show the report.

It needs nothing but this package: the data set is scikit-learn's digits, the server is the embedded one.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from jobs.errors import SandboxUnavailableError
from jobs.sandbox.choice import sandbox_of
from jobs.settings import Settings
from prune_engine.events import ProgressEvent, StageEvent
from prune_engine.report import Report
from prunery.display import RunDisplay, show_report

DENSITY = 0.05
OUT = Path("out") / "demo"
console = Console(highlight=False)


def main() -> int:
    """Run the demo; the return value is the exit status."""
    OUT.mkdir(parents=True, exist_ok=True)
    model = OUT / "digits.onnx"
    console.print("[bold]1[/] train a convolutional net on scikit-learn's digits, export it to ONNX")
    accuracy = train_digits(model)
    console.print(f"  {model}: {model.stat().st_size:,} bytes, {accuracy:.2f} % on the test split")
    port = _free_port()
    console.print(f"[bold]2[/] prunery up --port {port}")
    with tempfile.TemporaryDirectory(prefix="prunery-demo-") as data_dir:
        command = [sys.executable, "-m", "prunery", "up", "--port", str(port), "--data-dir", data_dir]
        service = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | sandbox())
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0) as client:
                _wait_until_ready(client, service)
                return _prune_over_http(client, model)
        finally:
            service.terminate()
            service.wait(timeout=30)


def sandbox() -> dict[str, str]:
    """What to add to the environment: where this machine has no sandbox the demo does without.

    It prunes nobody's model but its own. Whoever has chosen a sandbox gets that one.
    """
    settings = Settings()
    if settings.sandbox != "auto":
        return {}
    try:
        sandbox_of(settings)
    except SandboxUnavailableError as error:
        console.print(f"  SANDBOX=off, as this is our own model: {error.message}")
        return {"SANDBOX": "off"}
    return {}


def train_digits(path: Path) -> float:
    """Train a small convolutional net on `digits`, write it to `path`; return its test accuracy in %."""
    import numpy as np
    import torch
    from torch import nn

    from prune_engine.catalogue import default_cache_dir, fetch

    with np.load(fetch("digits", datasets_dir=None, cache_dir=default_cache_dir())) as digits:
        arrays = {name: torch.from_numpy(digits[name]) for name in digits.files}
    x_train, x_test = (arrays[name].float().reshape(-1, 1, 8, 8) / 16 for name in ("x_train", "x_test"))
    y_train, y_test = arrays["y_train"].long(), arrays["y_test"].long()
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(15):
        for rows in torch.split(torch.randperm(len(x_train)), 64):
            optimiser.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(net(x_train[rows]), y_train[rows]))
            optimiser.step()
    net.eval()
    with torch.no_grad():
        right = int((net(x_test).argmax(1) == y_test).sum())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter tells of its successor
        torch.onnx.export(
            net,
            (x_test[:1],),
            str(path),
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
    return 100.0 * right / len(y_test)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(client: httpx.Client, service: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and service.poll() is None:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass  # not listening yet: the loop's deadline is the answer to a service that never does
        time.sleep(0.1)
    raise SystemExit("the service did not become ready; `prunery up` in a terminal shows why")


def _prune_over_http(client: httpx.Client, model: Path) -> int:
    fields = {"density": str(DENSITY), "dataset": "digits", "effort": "quick"}
    shown = " ".join(f"-F {name}={value}" for name, value in fields.items())
    console.print(f"[bold]3[/] curl -F model=@{model} {shown} {client.base_url}/jobs")
    with model.open("rb") as file:
        answer = client.post("/jobs", data=fields, files={"model": file})
    job = answer.raise_for_status().json()
    with RunDisplay(console) as display:
        stream = client.stream(
            "GET", job["links"]["events"], headers={"Accept": "text/event-stream"}, timeout=None
        )
        with stream as lines:
            for line in lines.iter_lines():
                if line.startswith("data:") and (event := _shown(json.loads(line.removeprefix("data:")))):
                    display(event)
    job = client.get(f"/jobs/{job['id']}").raise_for_status().json()
    if job["status"] != "succeeded":
        console.print(f"the job {job['status']}: {job['error']}", markup=False)
        return 1
    for name, link in (("model.pruned.onnx", "model"), ("report.json", "report"), ("report.html", "report")):
        query = {"format": "html"} if name.endswith("html") else {}
        content = client.get(f"/jobs/{job['id']}/{link}", params=query).raise_for_status().content
        (OUT / name).write_bytes(content)
    show_report(Report.model_validate_json((OUT / "report.json").read_bytes()), console)
    console.print(f"[bold]4[/] the pruned model and the report (open it in a browser): {OUT}/report.html")
    return 0


def _shown(event: dict[str, Any]) -> StageEvent | ProgressEvent | None:
    """An event of the service that is worth a line; the service has more kinds than a child."""
    kinds: dict[str, type[StageEvent | ProgressEvent]] = {"stage": StageEvent, "progress": ProgressEvent}
    kind = kinds.get(event["type"])
    return kind.model_validate(event) if kind else None


if __name__ == "__main__":
    sys.exit(main())
