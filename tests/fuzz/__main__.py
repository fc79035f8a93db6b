"""`make fuzz`: the whole of it, and its figures in `benchmarks/results/fuzz.{json,md}`.

python -m tests.fuzz [--files N] [--requests N] [--children N] [--first SEED]
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from jobs import logs
from tests.fuzz.requests import CHILDREN_LIMIT, Tally, by_multipart, by_schema, served, through_children
from tests.fuzz.runner import Outcome, run

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
SHARES = {
    "onnx": 30, "hostile": 9, "bundle": 11, "torchscript": 7, "pt2": 2, "npz": 12, "images": 10, "csv": 7,
    "parquet": 7, "tokenizer": 5,
}  # fmt: skip


def main() -> int:
    """Run everything; 0 when nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--children", type=int, default=60)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", choices=("files", "requests"))
    parser.add_argument("--no-results", action="store_true", help="write nothing into benchmarks/results")
    options = parser.parse_args()
    logs.configure(logging.CRITICAL)
    began = time.monotonic()
    path = RESULTS / "fuzz.json"
    before = json.loads(path.read_text(encoding="utf-8")) if options.only else {}
    files = before["files"] if options.only == "requests" else _files(options.files, options.first)
    requests = (
        before["requests"]
        if options.only == "files"
        else _requests(options.requests, options.children, options.first)
    )
    found = {
        "machine": machine(),
        "seconds": round(time.monotonic() - began + before.get("seconds", 0)),
        "first_seed": options.first,
        "files": files,
        "requests": requests,
    }
    failures = [*files["failures"], *requests["failures"]]
    if not options.no_results:
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        (RESULTS / "fuzz.md").write_text(_page(found), encoding="utf-8")
    for failure in failures:
        print("FAILED", failure)
    print(f"{files['inputs']:,} files, {requests['requests']:,} requests, {len(failures)} failures")
    return 1 if failures else 0


def _files(count: int, first: int) -> dict[str, Any]:
    kinds = list(SHARES)
    tasks = [(kind, first + i) for kind in kinds for i in range(count * SHARES[kind] // 100)]
    said: dict[str, Counter[str]] = defaultdict(Counter)
    failures, slowest = [], Outcome("", 0, "", 0.0)
    for number, outcome in enumerate(run(tasks), 1):
        said[outcome.kind][outcome.said] += 1
        if outcome.failed:
            failures.append(f"{outcome.kind} seed {outcome.seed}: {outcome.said}")
            print("FAILED", failures[-1], flush=True)
        if outcome.seconds > slowest.seconds:
            slowest = outcome
        if number % 2000 == 0:
            print(f"{number:,} of {len(tasks):,} files", flush=True)
    return {
        "inputs": sum(sum(counter.values()) for counter in said.values()),
        "by_kind": {kind: dict(said[kind].most_common()) for kind in kinds},
        "failures": failures,
        "slowest": {"kind": slowest.kind, "seed": slowest.seed, "said": slowest.said,
                    "seconds": round(slowest.seconds, 2)},
    }  # fmt: skip


def _requests(count: int, children: int, first: int) -> dict[str, Any]:
    schema, multipart, inspected = Tally(), Tally(), Tally(limit=CHILDREN_LIMIT)
    with served() as url:
        by_schema(url, count * 7 // 10, schema)
        rest = count - sum(schema.answers.values())  # an operation may have fewer cases than were asked for
        by_multipart(url, range(first, first + rest), multipart)
        through_children(url, range(first, first + children), inspected)
    parts = {"schema": schema, "multipart": multipart, "children": inspected}
    return {
        "requests": sum(sum(tally.answers.values()) for tally in parts.values()),
        **{
            name: {
                "answers": {str(status): n for status, n in sorted(tally.answers.items())},
                "codes": dict(tally.codes.most_common()),
                "slowest_seconds": round(tally.slowest, 2),
            }
            for name, tally in parts.items()
        },
        "failures": [failure for tally in parts.values() for failure in tally.failures],
    }


def _page(found: dict[str, Any]) -> str:
    files, requests = found["files"], found["requests"]
    slowest = files["slowest"]
    lines = [
        "# Fuzzing",
        "",
        f"`make fuzz`, {found['machine']}, {found['seconds']} s, seeds from {found['first_seed']}.",
        "",
        f"{files['inputs']:,} mutated files: {len(files['failures'])} crashes, hangs and undocumented "
        "answers.",
        f"The slowest took {slowest['seconds']} s ({slowest['kind']}, seed {slowest['seed']}: "
        f"{slowest['said']}).",
        "",
        "| kind | files | accepted | refused, by code |",
        "|---|---|---|---|",
    ]
    for kind, said in files["by_kind"].items():
        refused = ", ".join(f"`{code}` {n:,}" for code, n in said.items() if code != "accepted")
        lines.append(f"| {kind} | {sum(said.values()):,} | {said.get('accepted', 0):,} | {refused} |")
    lines += [
        "",
        f"{requests['requests']:,} requests to a real API over Valkey: {len(requests['failures'])} "
        "hangs or answers of 5xx that were not meant (503, 507).",
        "`children` are files that went through `POST /models/inspect` and its sandboxed process.",
        "",
        "| requests | answers | codes | slowest |",
        "|---|---|---|---|",
    ]
    for name in ("schema", "multipart", "children"):
        part = requests[name]
        answers = ", ".join(f"{status}: {n:,}" for status, n in part["answers"].items())
        codes = ", ".join(f"`{code}` {n:,}" for code, n in part["codes"].items())
        lines.append(f"| {name} | {answers} | {codes} | {part['slowest_seconds']} s |")
    failed = [f"- {failure}" for failure in [*files["failures"], *requests["failures"]]]
    return "\n".join([*lines, *(["", *failed] if failed else []), ""])


if __name__ == "__main__":
    sys.exit(main())
