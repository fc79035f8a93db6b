"""What the engine needs inside of a sandbox, besides what keeps it there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from jobs.sandbox import beside, choice, view
from jobs.settings import Settings
from tests.jobs.sandbox.attacker import Way, finish, job_folder, skip_unless_here, wish
from worker.child import Child
from worker.inputs import fetch_cell, fetch_environment


@pytest.mark.parametrize("way", ["bubblewrap", "landlock"])
def test_a_named_data_set_is_kept_for_the_next_job(way: str, tmp_path: Path) -> None:
    skip_unless_here(Way(way))
    choice._found.cache_clear()
    folder = job_folder(tmp_path)
    settings = Settings(_env_file=None, sandbox=way, data_dir=tmp_path / "data")  # type: ignore[call-arg, arg-type]
    cell = fetch_cell(settings, "digits", folder)
    outcome = finish(Child(cell, fetch_environment(settings, folder)))
    assert outcome.status == 0, [*outcome.lines, outcome.errors]
    (kept,) = settings.cache_dir.iterdir()
    with np.load(kept) as arrays:
        assert arrays["x_train"].shape[1:] == (8, 8)
    choice._found.cache_clear()


@pytest.mark.parametrize("gpu", [False, True])
def test_beside_landlock_a_thread_can_be_named_where_there_is_a_gpu(
    gpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CUDA does when it starts: by `comm` of its thread; "/proc/self" as libraries find it."""
    skip_unless_here(Way("landlock"))
    monkeypatch.setattr(view, "gpu_devices", lambda: ("/dev/nvidiactl",) if gpu else ())
    view.machine.cache_clear()
    body = (
        "path = f'/proc/self/task/{os.getpid()}/comm'\n"
        "attempt('name', lambda: open(path, 'r+').write('cuda'))\n"
        "attempt('another', lambda: open(f'/proc/{os.getppid()}/comm', 'r+').write('cuda'))\n"
    )
    asked = wish(tmp_path, body)
    cell = beside.cell(asked)
    view.machine.cache_clear()
    outcome = finish(Child(cell, {"PATH": os.environ["PATH"], "HOME": str(asked.folder / "tmp")}))
    assert outcome.of("name").startswith("GOT" if gpu else "refused"), outcome
    assert outcome.of("another").startswith("refused"), outcome
