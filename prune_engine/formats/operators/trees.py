"""Tree ensembles of ai.onnx.ml. All trees are walked at once, one level a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from prune_engine.formats.operators.classifiers import classify, of_targets
from prune_engine.formats.operators.machine_learning import ML
from prune_engine.formats.operators.table import Kernel, Node, NotSupportedError, operator
from prune_engine.formats.tensors import to_numpy

_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
_LEAF = -1
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


@dataclass
class _Forest:
    """Trees as arrays over all nodes; `leaves` holds what each node adds to each target, NaN for nothing."""

    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    mode: list[int] = field(default_factory=list)
    yes: list[int] = field(default_factory=list)
    no: list[int] = field(default_factory=list)
    missing: list[bool] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    leaves: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    @property
    def depth(self) -> int:
        """How many steps the longest walk takes."""
        level, steps = set(self.roots), 0
        while True:
            level = {c for n in level if self.mode[n] != _LEAF for c in (self.yes[n], self.no[n])}
            if not level:
                return steps
            steps += 1
            if steps > len(self.mode):
                raise ValueError("a tree has a cycle")


def _walk(forest: _Forest) -> Kernel:
    """x [N, F] -> the leaf of each tree, [N, trees]."""
    depth = forest.depth
    columns = [
        torch.tensor(values)
        for values in (forest.feature, forest.threshold, forest.mode, forest.yes, forest.no, forest.missing)
    ]
    roots = torch.tensor(forest.roots)
    used = sorted(set(forest.mode) - {_LEAF})

    def kernel(x: Tensor) -> Tensor:
        feature, threshold, mode, yes, no, missing = (column.to(x.device) for column in columns)
        place = roots.to(x.device).expand(x.shape[0], -1)
        for _ in range(depth):
            value, bound, kind = x.gather(1, feature[place]), threshold[place], mode[place]
            taken = torch.zeros_like(place, dtype=torch.bool)
            for number in used:
                taken = torch.where(kind == number, _compare(number, value, bound), taken)
            taken = taken | (value.isnan() & missing[place])
            place = torch.where(kind == _LEAF, place, torch.where(taken, yes[place], no[place]))
        return place

    return kernel


def _compare(mode: int, value: Tensor, bound: Tensor) -> Tensor:
    compare = (torch.le, torch.lt, torch.ge, torch.gt, torch.eq, torch.ne)[mode]
    return compare(value, bound)


def _sum_up(forest: _Forest, aggregate: str, base: Sequence[float] | None) -> Kernel:
    """x [N, F] -> [N, targets]."""
    walk, untouched = _walk(forest), np.isnan(forest.leaves)
    fill = {"MIN": np.inf, "MAX": -np.inf}.get(aggregate, 0.0)
    table = torch.from_numpy(np.where(untouched, fill, forest.leaves).astype(np.float32))

    def kernel(x: Tensor) -> Tensor:
        values = table.to(x.device)[walk(x.float())]
        if aggregate in ("MIN", "MAX"):
            total = values.amin(1) if aggregate == "MIN" else values.amax(1)
            total = torch.where(total.isinf(), torch.zeros_like(total), total)
        else:
            total = values.mean(1) if aggregate == "AVERAGE" else values.sum(1)
        return total if not base else total + total.new_tensor(base)

    return kernel


def _old_forest(node: Node, prefix: str, targets: int) -> _Forest:
    """The trees of the operators before version 5, whose nodes are named by tree and number."""
    trees, numbers = node.attribute("nodes_treeids"), node.attribute("nodes_nodeids")
    place = {key: i for i, key in enumerate(zip(trees, numbers, strict=True))}
    count = len(place)
    kinds = node.attribute("nodes_modes")
    kinds = [k.decode() if isinstance(k, bytes) else k for k in kinds]
    values = _numbers(node, "nodes_values")
    sides = [
        [place.get(key, 0) for key in zip(trees, node.attribute(f"nodes_{side}nodeids"), strict=True)]
        for side in ("true", "false")
    ]
    seen: set[int] = set()
    leaves = np.full((count, targets), np.nan, np.float32)
    for tree, number, target, weight in zip(
        node.attribute(f"{prefix}_treeids"),
        node.attribute(f"{prefix}_nodeids"),
        node.attribute(f"{prefix}_ids"),
        _numbers(node, f"{prefix}_weights"),
        strict=True,
    ):
        old = leaves[place[tree, number], target]
        leaves[place[tree, number], target] = weight + (0.0 if np.isnan(old) else old)
    roots = [i for i, tree in enumerate(trees) if not (tree in seen or seen.add(tree))]  # type: ignore[func-returns-value]
    return _Forest(
        feature=list(node.attribute("nodes_featureids")),
        threshold=values,
        mode=[_LEAF if kind == "LEAF" else _MODES.index(kind) for kind in kinds],
        yes=sides[0],
        no=sides[1],
        missing=[bool(m) for m in node.attribute("nodes_missing_value_tracks_true") or [0] * count],
        roots=roots,
        leaves=leaves,
    )


def _numbers(node: Node, name: str) -> list[float]:
    tensor = node.attribute(f"{name}_as_tensor")
    values = node.attribute(name) if tensor is None else to_numpy(tensor).reshape(-1).tolist()
    return list(values or [])


@operator("TreeEnsembleRegressor", domain=ML, since=1)
def _regressor(node: Node) -> Kernel:
    targets = node.attribute("n_targets", 1)
    total = _sum_up(
        _old_forest(node, "target", targets),
        node.attribute("aggregate_function", "SUM"),
        _numbers(node, "base_values"),
    )
    finish = of_targets(node.attribute("post_transform", "NONE"), targets)
    return lambda x: finish(total(x))


@operator("TreeEnsembleClassifier", domain=ML, since=1)
def _classifier(node: Node) -> Kernel:
    labels = node.attribute("classlabels_int64s")
    if not labels:
        raise NotSupportedError(
            "class labels that are strings", "Export the model with numbers as its labels."
        )
    weights, used = _numbers(node, "class_weights"), set(node.attribute("class_ids"))
    binary = len(labels) == 2 and len(used) == 1
    forest = _old_forest(node, "class", len(labels))
    if binary:
        forest.leaves = forest.leaves[:, sorted(used)]
    base = _numbers(node, "base_values")
    total = _sum_up(forest, "SUM", base[-1:] if binary else base)
    finish = classify(labels, node.attribute("post_transform", "NONE"), all(w >= 0 for w in weights))
    return lambda x: finish(total(x))


@operator("TreeEnsemble", domain=ML, since=5)
def _ensemble(node: Node) -> Kernel:
    """Version 5: inner nodes and leaves are numbered apart, and a node may ask for membership in a set."""
    modes = to_numpy(node.attribute("nodes_modes")).reshape(-1).tolist()
    splits = to_numpy(node.attribute("nodes_splits")).reshape(-1).tolist()
    inner, count = len(modes), node.attribute("n_targets", 1)
    weights = to_numpy(node.attribute("leaf_weights")).reshape(-1)
    targets = node.attribute("leaf_targetids")
    members = _members(node)
    forest = _Forest(
        feature=[*node.attribute("nodes_featureids"), *[0] * len(targets)],
        threshold=[*splits, *[0.0] * len(targets)],
        mode=[*modes, *[_LEAF] * len(targets)],
        yes=_children(node, "true", inner),
        no=_children(node, "false", inner),
        missing=[
            *(bool(m) for m in node.attribute("nodes_missing_value_tracks_true") or [0] * inner),
            *[False] * len(targets),
        ],
        roots=list(node.attribute("tree_roots")),
        leaves=np.full((inner + len(targets), count), np.nan, np.float32),
    )
    for leaf, (target, weight) in enumerate(zip(targets, weights.tolist(), strict=True)):
        forest.leaves[inner + leaf, target] = weight
    _unfold_members(forest, members)
    total = _sum_up(forest, _AGGREGATES[node.attribute("aggregate_function", 1)], None)
    names = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
    finish = of_targets(names[node.attribute("post_transform", 0)], count)
    return lambda x: finish(total(x))


def _children(node: Node, side: str, inner: int) -> list[int]:
    """The child of each node in one numbering: inner nodes first, then leaves, whose children are 0."""
    numbers, leafs = node.attribute(f"nodes_{side}nodeids"), node.attribute(f"nodes_{side}leafs")
    found = [inner + n if leaf else n for n, leaf in zip(numbers, leafs, strict=True)]
    return [*found, *[0] * len(node.attribute("leaf_targetids"))]


def _members(node: Node) -> list[list[float]]:
    """The sets of the membership nodes, in order; NaN ends each."""
    tensor, sets = node.attribute("membership_values"), [[]]  # type: ignore[var-annotated]
    for value in [] if tensor is None else to_numpy(tensor).reshape(-1).tolist():
        if np.isnan(value):
            sets.append([])
        else:
            sets[-1].append(value)
    return sets


def _unfold_members(forest: _Forest, sets: list[list[float]]) -> None:
    """Turns a membership node (mode 6) into a chain of nodes that ask for equality, one a member."""
    for number, members in zip([i for i, mode in enumerate(forest.mode) if mode == 6], sets, strict=False):
        otherwise, here = forest.no[number], number
        for i, member in enumerate(members):
            if i:
                here = len(forest.mode)
                forest.feature.append(forest.feature[number])
                forest.yes.append(forest.yes[number])
                forest.missing.append(forest.missing[number])
                forest.threshold.append(0.0)
                forest.mode.append(0)
                forest.no.append(otherwise)
                blank = np.full((1, forest.leaves.shape[1]), np.nan, np.float32)
                forest.leaves = np.concatenate([forest.leaves, blank])
            forest.mode[here], forest.threshold[here] = _MODES.index("BRANCH_EQ"), member
            forest.no[here] = otherwise if i == len(members) - 1 else len(forest.mode)
