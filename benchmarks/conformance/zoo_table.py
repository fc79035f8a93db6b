"""The zoo's table: a row a net, a column a route."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from benchmarks.conformance.zoo_export import CACHE, ROUTES
from benchmarks.machine import store

Result = dict[str, Any]


def write_table(results: Sequence[Result]) -> None:
    """Write `results/conformance_zoo.{json,md}`."""
    rows = []
    for net in dict.fromkeys(result["net"] for result in results):
        by_route = {result["route"]: result for result in results if result["net"] == net}
        sizes = [result["weights"] for result in by_route.values() if "weights" in result]
        differences = [result["difference"] for result in by_route.values() if "difference" in result]
        rows.append(
            {
                "net": net,
                "kind": next(iter(by_route.values()))["family"],
                "prunable weights": max(sizes, default=""),
                **{route: _cell(by_route.get(route)) for route in ROUTES},
                "worst difference": f"{max(differences):.1e}" if differences else "",
            }
        )
    store("conformance_zoo", "A zoo of nets through every route, to a pruned file", rows, _notes(results))


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    if result["passed"]:
        return "passed, fixed batch" if result["fixed batch"] else "passed"
    return "does not export" if result["stage"] == "export" else f"fails: {result['stage']}"


def _notes(results: Sequence[Result]) -> list[str]:
    notes = []
    for route in ROUTES:
        mine = [result for result in results if result["route"] == route and result.get("stage") != "export"]
        if mine:
            good = sum(result["passed"] for result in mine)
            notes.append(f"- {route}: {good} of {len(mine)} passed ({good / len(mine):.1%})")
    counted = [result for result in results if result.get("stage") != "export"]
    good = sum(result["passed"] for result in counted)
    notes.append(f"- all: {good} of {len(counted)} passed ({good / max(len(counted), 1):.1%})")
    both = [
        net
        for net in {result["net"] for result in counted}
        if {"legacy", "dynamo"} <= {result["route"] for result in counted if result["net"] == net}
    ]
    notes.append(f"- {len(both)} nets come out of both of torch's ONNX exporters")
    for title, chosen in (
        ("Fails:", [r for r in counted if not r["passed"]]),
        (
            "Does not export (torch's exporter, not counted):",
            [r for r in results if r.get("stage") == "export"],
        ),
        ("Weights that get no gradient in the net itself:", [r for r in counted if r.get("no gradient")]),
    ):
        if chosen:
            notes += ["", title, "", *(f"- {r['net']}, {r['route']}: {_why(r)}" for r in chosen)]
    return ["", *notes]


def _why(result: Result) -> str:
    said = str(result.get("error") or ", ".join(result["no gradient"])).replace(f"{CACHE}/", "")
    return re.sub(r"\x1b?\[\d+m", "", said).replace("|", "/").replace("\n", " ")[:300]
