"""The same cluster with the real engine in its sandbox: small trainings on the digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs.artifacts import input_key, key_of
from jobs.record import Job
from prune_engine.data.built_in import digits
from prune_engine.spec import PruneSpec
from tests.chaos.cluster import Cluster, Verdict
from tests.stores import a_job
from tests.trained import digits_net, export

DENSITY = 0.1
Masks = dict[str, np.ndarray]


class EngineCluster(Cluster):
    """Every job asks for the same, so every one must come to the very same masks as an undisturbed one."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        real = {"child_command": None, "fetch_command": None, "sandbox": "auto", "checkpoint_seconds": 0.5}
        super().__init__(folder, **(real | settings))
        self._model = folder / "digits.onnx"
        export(digits_net(digits()), torch.zeros(1, 1, 8, 8), self._model)
        self._masks: Masks = {}

    def accept(self) -> Job:
        """Store a job and its model; nobody is told."""
        job = a_job(spec=PruneSpec(density=DENSITY, epochs=150, seed=3))
        self.artifacts.put_file(input_key(job.id, "model"), self._model)
        self.store.create(job)
        return job

    def undisturbed(self) -> None:
        """Run one job in peace, and remember its masks."""
        [job] = self.submit(1)
        self.eventually(lambda: self.store.get(job.id).result, 120)
        self._masks = self._masks_of(self.store.get(job.id))
        assert self.store.delete(job.id)
        self.artifacts.delete_files(self.artifacts.keys(job.id))

    def _wrong(self, job: Job, verdict: Verdict) -> list[str]:
        verdict.resumed += job.attempt > 1
        masks = self._masks_of(job)
        kept = sum(int(mask.sum()) for mask in masks.values())
        prunable = sum(mask.size for mask in masks.values())
        same = masks.keys() == self._masks.keys() and all(
            np.array_equal(mask, self._masks[name]) for name, mask in masks.items()
        )
        return [] if same and kept == round(DENSITY * prunable) else [f"{job.id}: {kept} of {prunable}"]

    def _masks_of(self, job: Job) -> Masks:
        assert job.result is not None
        file = next(file for file in job.result.artifacts if file.name == "masks.npz")
        got = self.folder / "masks.npz"
        self.artifacts.fetch_file(key_of(job.id, file), got)
        with np.load(got) as held:
            return {name: held[name] for name in held.files}
