"""Whole jobs, by curl against `prunery up`: the trained ResNet-20 in both formats, and an MLP on MNIST.

    python -m benchmarks.curl_jobs [--epochs N]       writes results/curl_jobs.{json,md}

Needs the shared models and data (`SHARED`, by default the folder `shared` beside the project) and curl.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.lenet import DATASETS, train_lenet300
from benchmarks.machine import store

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("SHARED", ROOT.parent / "shared"))
RESNET = SHARED / "models" / "cifar10_resnet"
PORT = 8765


@contextmanager
def service(data_dir: str) -> Iterator[str]:
    """`prunery up`, ready; yields its address."""
    command = [sys.executable, "-m", "prunery", "up", "--port", str(PORT), "--data-dir", data_dir]
    process = subprocess.Popen(command, env={**os.environ, "DATASETS_DIR": str(DATASETS)})
    url = f"http://127.0.0.1:{PORT}"
    try:
        while subprocess.run(["curl", "-sf", f"{url}/readyz"], capture_output=True).returncode:
            if process.poll() is not None:
                raise SystemExit("prunery up ended early")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


def curl(*arguments: str) -> Any:
    """Run curl, fail on an HTTP error, return the JSON it printed."""
    done = subprocess.run(["curl", "-s", "--fail-with-body", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"curl {' '.join(arguments)}: {done.stdout or done.stderr}")
    return json.loads(done.stdout)


def run_job(url: str, model: Path, dataset: str, density: float, extra: list[str]) -> dict[str, Any]:
    """Send a job, wait for its end, return a row of the table."""
    fields = [f"model=@{model}", f"density={density}", f"dataset={dataset}", *extra]
    job = curl(*(part for field in fields for part in ("-F", field)), f"{url}/jobs")
    begin = time.monotonic()
    while job["status"] not in ("succeeded", "failed", "cancelled"):
        job = curl(f"{url}/jobs/{job['id']}?wait=30")
        print(
            f"\r{model.name} {density} {job['status']} {job['stage']} {job['progress']['fraction']:.0%}   ",
            end="",
        )
    print()
    if job["status"] != "succeeded":
        raise SystemExit(f"{model.name}: {job['error']}")
    report = curl(f"{url}/jobs/{job['id']}/report")
    quality, reached = report["quality"], report["density"]
    latency = report["latency"]
    print(json.dumps({"quality": quality, "density": reached, "settings": report["settings"]}), flush=True)
    return {
        "model": model.name,
        "data": dataset,
        "density asked": density,
        "density reached": f"{reached['kept']} / {reached['prunable']} = {reached['reached']:.6g}",
        "dense %": round(quality["dense"]["value"], 2),
        "before fine-tuning %": round(quality["before_finetuning"]["value"], 2),
        "pruned %": round(quality["pruned"]["value"], 2),
        "gzip bytes": f"{report['size']['before_gzip']} -> {report['size']['after_gzip']}",
        "latency ratio": round(latency["ratio"], 2) if latency else None,
        "epochs": report["settings"].get("epochs"),
        "minutes": round((time.monotonic() - begin) / 60, 1),
    }


def main() -> None:
    """Run the jobs and store the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", help="as the spec's field; default: auto")
    arguments = parser.parse_args()
    extra = [f"epochs={arguments.epochs}"] if arguments.epochs else []
    with tempfile.TemporaryDirectory() as folder:
        lenet = Path(folder) / "lenet300_100.onnx"
        train_lenet300(lenet)
        with service(f"{folder}/data") as url:
            rows = [
                run_job(url, RESNET / "resnet20.onnx", "cifar10", 0.2, extra),
                run_job(url, RESNET / "resnet20.torchscript.pt", "cifar10", 0.2, extra),
                run_job(url, lenet, "mnist", 0.05, extra),
                run_job(url, lenet, "mnist", 0.01, extra),
            ]
    notes = ["Accuracy on the test split, in onnxruntime; every setting but the density at its default."]
    store("curl_jobs", "Whole jobs by curl against `prunery up`", rows, notes)


if __name__ == "__main__":
    main()
