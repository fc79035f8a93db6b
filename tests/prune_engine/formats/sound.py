"""Small sound files: what damage and mutations begin from."""

from __future__ import annotations

import numpy as np

from tests.prune_engine.formats import test_branches
from tests.prune_engine.formats import test_control_flow as control_flow
from tests.prune_engine.formats.graphs import linear
from tests.prune_engine.formats.zoo import build, export, inputs


def sound_files(*names: str) -> list[bytes]:
    """Graphs made by hand, with loops, scans and branches, and these nets of the zoo."""
    nets = [export(build(name), inputs(name, 2), opset=13) for name in names]
    handmade = [
        linear(),
        control_flow.looping(np.array(3), np.array(True), control_flow.UNTIL_LARGE),
        control_flow.scanning(num_scan_inputs=2),
        test_branches.branching(test_branches.BY_ROWS, {"zero": np.array(0), "five": np.array(5)}),
    ]
    for proto in handmade:
        for value in proto.graph.output:
            value.type.tensor_type.shape.SetInParent()
    return [proto.SerializeToString() for proto in (*handmade, *nets)]
