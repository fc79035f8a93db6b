"""The first paper's tutorial task, sent as a stranger would: the net falls apart into its two functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.end_to_end.conftest import Service
from tests.end_to_end.pruned import weights


def reached_inputs(layers: list[np.ndarray]) -> list[set[int]]:
    """Inputs that each output depends on; layers as (out, in) matrices."""
    reach = np.eye(layers[0].shape[1], dtype=bool)
    for layer in layers:
        reach = (layer != 0).astype(int) @ reach.astype(int) > 0
    return [set(np.flatnonzero(row)) for row in reach]


def test_it_ends_with_two_disjoint_sub_networks(service: Service, tutorial: tuple[Path, Path]) -> None:
    model, data = tutorial
    job = service.run(model, data, density=0.1125, loss="mae", epochs=7500, batch_size=1000)
    assert job["status"] == "succeeded", job["error"]
    layers = list(weights(service.model(job)).values())
    assert sum(int(np.count_nonzero(layer)) for layer in layers) == 18
    assert reached_inputs(layers) == [{0, 1}, {2, 3}]
    report = service.report(job)
    assert report["quality"]["metric"]["name"] == "mae"
    assert report["quality"]["pruned"]["value"] < 0.2
