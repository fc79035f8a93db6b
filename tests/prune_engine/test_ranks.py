"""A job in several processes: events of the first alone, and none is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from prune_engine.data.built_in import digits
from prune_engine.environment import choose_device
from prune_engine.errors import DeviceError, SpecError
from prune_engine.events import DoneEvent, ErrorEvent, StartedEvent, parse_event
from prune_engine.spec import parse_spec
from tests.trained import digits_net, export


def job(folder: Path, **spec: object) -> Path:
    export(digits_net(digits()), torch.zeros(1, 1, 8, 8), folder / "model.onnx")
    np.savez(folder / "data.npz", **digits())
    (folder / "spec.json").write_text(json.dumps({"density": 0.2, "epochs": 2, **spec}))
    (folder / "job.json").write_text("{}")
    return folder


def command(folder: Path, ranks: int) -> list[str]:
    return [sys.executable, "-m", "prune_engine", "run", str(folder), "--ranks", str(ranks)]


def of(folder: Path) -> list[psutil.Process]:
    """The processes that work in `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(folder: Path, count: int) -> list[psutil.Process]:
    until = time.monotonic() + 60
    while len(found := of(folder)) != count and time.monotonic() < until:
        time.sleep(0.1)
    return found


def test_two_ranks_do_a_job_and_only_the_first_speaks(tmp_path: Path) -> None:
    folder = job(tmp_path)
    done = subprocess.run(command(folder, 2), capture_output=True, timeout=200)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    events = [parse_event(line) for line in done.stdout.splitlines()]
    assert [type(event) for event in events].count(StartedEvent) == 1
    assert isinstance(events[-1], DoneEvent)
    assert events[-1].metrics["after"]["accuracy"] > 50
    assert of(folder) == []


def test_more_gpus_than_there_are_is_an_error_that_says_how_many(tmp_path: Path) -> None:
    if torch.cuda.device_count() > 63:
        pytest.skip("this machine has 64 GPUs")
    folder = job(tmp_path, gpus=64)
    done = subprocess.run(command(folder, 1), capture_output=True, timeout=60)
    event = parse_event(done.stdout.splitlines()[-1])
    assert done.returncode == 2
    assert isinstance(event, ErrorEvent)
    assert (event.code, event.param) == ("device_unavailable", "gpus")
    assert "64" in event.message


def test_several_processes_without_a_gpu_each_train_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"
    assert choose_device("auto", 2).type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(DeviceError, match="2 were asked for and this worker has 1"):
        choose_device("cuda", 2)


def test_several_gpus_contradict_a_cpu() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec({"density": 0.1, "gpus": 2, "device": "cpu"})
    assert caught.value.param == "gpus"


def test_who_kills_the_group_of_the_first_kills_all(tmp_path: Path) -> None:
    folder = job(tmp_path, epochs=100_000)
    running = subprocess.Popen(command(folder, 2), stdout=subprocess.DEVNULL, start_new_session=True)
    assert len(wait_for(folder, 2)) == 2
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert wait_for(folder, 0) == []


def test_the_first_does_not_wait_for_a_rank_that_is_gone(tmp_path: Path) -> None:
    folder = job(tmp_path, epochs=100_000)
    running = subprocess.Popen(
        command(folder, 2), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    ranks = wait_for(folder, 2)
    next(process for process in ranks if process.pid != running.pid).kill()
    _, said = running.communicate(timeout=30)
    assert running.returncode == 1
    assert b"rank 1 ended" in said
