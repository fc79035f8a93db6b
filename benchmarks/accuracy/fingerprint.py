"""What a run depends on, as a few characters: a changed rule or setting makes its runs due again."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.accuracy.dense import RECIPES
from benchmarks.accuracy.peers import PEERS, Settings
from benchmarks.accuracy.rows import ROOT
from benchmarks.accuracy.tasks import Task

UNMOVED = "gumbel-unmoved"
"""Our rule without the small moves of the images, which peers are not trained with."""

_EVERY_FIELD: dict[str, Any] = {"show_empty": True} if sys.version_info >= (3, 13) else {}
"""The same code has the same fingerprint whichever Python looks at it."""

OURS: dict[str, dict[str, str]] = {
    "gumbel": {"method": "gumbel"},
    UNMOVED: {"method": "gumbel", "augmentation": "off"},
    "magnitude": {"method": "magnitude"},
}
"""What of the spec makes each of our methods."""

RULE = ("gates", "methods", "training")
"""The parts of the engine that decide what comes out."""

TOGETHER = "distributed.py"
"""What several processes do among themselves; every run here is one process, where it does nothing."""


def of_ours(method: str, task: Task) -> str:
    """Of the engine's code (without comments and docstrings) and the budget."""
    return _digest([method, task.batch_size, RECIPES, engine_digest()])


def of_peer(method: str, task: Task, settings: Settings) -> str:
    """Of the peer's version and settings, and the budget."""
    return _digest(
        [method, PEERS[method].revision, dict(settings), task.batch_size, RECIPES, versions(method)]
    )


def versions(method: str) -> dict[str, str]:
    """Of what trains: the package without what follows its third number."""
    names = ["prunery", "torch"] if method in OURS else ["torch"]
    if method not in OURS and PEERS[method].package:
        names.append(str(PEERS[method].package))
    return {name: _version(name) for name in names}


@functools.cache
def engine_digest() -> str:
    """Of the syntax trees of the engine's rule."""
    trees = []
    for part in RULE:
        for path in sorted((ROOT / "prune_engine" / part).rglob("*.py")):
            if path.name != TOGETHER:
                trees.append((str(path.relative_to(ROOT)), _code(path)))
    return _digest(trees)


def _code(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
        if getattr(node, "type_params", None) == []:  # since Python 3.12
            del node.type_params  # type: ignore[attr-defined]
    return ast.dump(tree, **_EVERY_FIELD)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


def _version(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return "missing"
