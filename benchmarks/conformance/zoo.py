"""Proof 2: a zoo of nets with random weights, through every route, to a pruned file.

    python -m benchmarks.conformance zoo [--resume] [--workers N] [--routes legacy,dynamo] [NET ...]

For each net and route: torch exports it, Prunery reads it, the module agrees with onnxruntime (the largest
difference at most 1e-4 of the output's largest value), every prunable weight has a finite gradient that is
not zero, and `prune` with ten steps at density 0.3 makes a file that loads in onnxruntime with exactly that
density.

The nets need packages that Prunery does not: `benchmarks/conformance/requirements.txt` says how to get them.
Each case runs in a process of its own, and its outcome is a line of `.cache/zoo/results.jsonl`; `--resume`
runs what has not passed there. Without names, `benchmarks/results/conformance_zoo.{json,md}` is written.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.conformance.architectures import ZOO
from benchmarks.conformance.zoo_export import CACHE, ROUTES, routes_of
from benchmarks.conformance.zoo_table import write_table

SECONDS = 600
LINE = 0.98
_LINES = CACHE / "results.jsonl"
VENV = CACHE.parent / "zoo-venv" / "bin" / "python"
Case = tuple[str, str]


def main(arguments: Sequence[str]) -> int:
    """Run the cases; 0 when at least 98 % of those that torch exports passed."""
    options = _parse(arguments)
    cases = [
        (net, route)
        for net in (options.nets or ZOO)
        for route in routes_of(ZOO[net])
        if route in options.routes.split(",")
    ]
    CACHE.mkdir(parents=True, exist_ok=True)
    before = _results() if options.resume else {}
    wanted = set(cases)
    kept = {case: found for case, found in before.items() if found["passed"] or case not in wanted}
    if not options.resume and not options.nets:
        _LINES.unlink(missing_ok=True)
    todo = [case for case in cases if case not in kept]
    with ThreadPoolExecutor(options.workers) as pool:
        for number, result in enumerate(pool.map(_run, todo), 1):
            with _LINES.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(result) + "\n")
            said = "ok" if result["passed"] else f"{result['stage']}: {result['error'][:150]}"
            print(f"{number}/{len(todo)} {result['net']} {result['route']}: {said}", flush=True)
    results = _results()
    found = [results[case] for case in cases if case in results]
    counted = [result for result in found if result.get("stage") != "export"]
    share = sum(result["passed"] for result in counted) / max(len(counted), 1)
    if not options.nets and options.routes == ",".join(ROUTES):
        write_table(found)
    print(f"{sum(result['passed'] for result in counted)} of {len(counted)} passed ({share:.1%})")
    return 0 if share >= LINE else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conformance zoo")
    parser.add_argument("nets", nargs="*", help="only these")
    parser.add_argument("--routes", default=",".join(ROUTES))
    parser.add_argument("--resume", action="store_true", help="only what has not passed yet")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    return parser.parse_args(arguments)


def _results() -> dict[Case, dict[str, Any]]:
    """The latest outcome of every case."""
    if not _LINES.exists():
        return {}
    lines = (json.loads(line) for line in _LINES.read_text(encoding="utf-8").splitlines())
    return {(result["net"], result["route"]): result for result in lines}


def _run(case: Case) -> dict[str, Any]:
    net, route = case
    python = str(VENV) if VENV.exists() else sys.executable
    command = [python, "-m", "benchmarks.conformance.zoo_case", net, route]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    told: dict[str, Any] = {"net": net, "family": ZOO[net].family, "route": route, "passed": False}
    root = Path(__file__).resolve().parents[2]
    try:
        ended = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {**told, "stage": "time", "error": f"more than {SECONDS} s"}
    (CACHE / f"{net}-{route}.log").write_text(ended.stdout + ended.stderr, encoding="utf-8")
    last = ended.stdout.strip().splitlines()[-1:]
    if ended.returncode or not last or not last[0].startswith("{"):
        said = (ended.stderr.strip().splitlines() or ["no word"])[-1]
        return {**told, "stage": "crash", "error": f"exit status {ended.returncode}: {said[:300]}"}
    result: dict[str, Any] = json.loads(last[0])
    return result
