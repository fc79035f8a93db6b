"""ONNX's own backend tests through the importer.

    python -m benchmarks.conformance backend       writes results/conformance_backend.{json,md}

Every case of the kinds node, simple, pytorch-converted and pytorch-operator, with the suite's own tolerances.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import onnx
import torch

from benchmarks.conformance.backend_cases import EXPLAINED, KINDS, cases, failure
from benchmarks.machine import store

LEAST = 0.97


def main(arguments: Sequence[str] = ()) -> int:
    """Run them all; 0 when at least 97 % of those in scope pass."""
    rows, failures = [], []
    outside: dict[str, list[str]] = defaultdict(list)
    for kind in KINDS:
        counts = {"all": 0, "in scope": 0, "passed": 0}
        for case in cases(kind):
            counts["all"] += 1
            if case.outside:
                outside[case.outside].append(case.name)
                continue
            counts["in scope"] += 1
            found = failure(case)
            if found is None:
                counts["passed"] += 1
            else:
                failures.append(f"- `{case.name}`: {EXPLAINED.get(case.name, found)}")
        rows.append({"kind": kind, **counts})
    total = {head: sum(int(row[head]) for row in rows) for head in ("all", "in scope", "passed")}
    rows.append({"kind": "all", **total})
    for row in rows:
        row["share"] = f"{100 * int(row['passed']) / int(row['in scope']):.1f} %"
    sections = {f"Failed: {len(failures)}": failures}
    for reason, names in sorted(outside.items()):
        sections[f"Out of scope, {reason}: {len(names)}"] = [f"- `{name}`" for name in names]
    store(
        "conformance_backend",
        "ONNX's backend tests through the importer",
        rows,
        [
            f"`python -m benchmarks.conformance backend`: onnx {onnx.__version__}, torch "
            f"{torch.__version__}. "
            "The suite's tolerances (relative 1e-3, absolute 1e-7), but two units in the last place for "
            "16-bit outputs; shapes and types are compared too. At least 97 % of those in scope must pass.",
        ],
        sections,
    )
    return 0 if total["passed"] >= LEAST * total["in scope"] else 1
