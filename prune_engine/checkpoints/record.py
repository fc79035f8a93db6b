"""The commit record of a checkpoint, `checkpoint.json`: with it there is a checkpoint, without it none."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

NAME = "checkpoint.json"
"""Its file; the files that it names lie beside it."""


class StoredFile(BaseModel):
    """A file of tensors. No name is ever given to other contents in one attempt."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=r"^checkpoint-[0-9]+[0-9a-z.-]*\.safetensors$")
    sha256: str
    bytes: int


class Record(BaseModel):
    """What is in a checkpoint, and what it belongs to.

    Attributes:
        format: of this record and of the states.
        engine: version of the engine that wrote it.
        digest: of the request: spec, model and data.
        number: of the checkpoint, from 1, through all attempts.
        step: training steps that were done.
        total_steps: that are planned.
        time: when it was written, in seconds since the epoch.
        notes: for each level of the work (job, frontier, target, descent, run) what is no tensor.
        parts: for each level the files of its states, by name.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    engine: str
    digest: str
    number: int
    step: int
    total_steps: int
    time: float
    notes: dict[str, dict[str, Any]]
    parts: dict[str, dict[str, StoredFile]]

    @property
    def files(self) -> dict[str, StoredFile]:
        """Every file that the checkpoint needs, by name."""
        return {stored.name: stored for level in self.parts.values() for stored in level.values()}
