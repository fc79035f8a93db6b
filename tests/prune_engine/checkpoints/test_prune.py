"""`prune_engine.prune(..., checkpoints=...)`, and Ctrl-C at `prunery prune`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from prune_engine import PruneSpec, prune
from prune_engine.api import PruneResult
from prune_engine.checkpoints.keeper import Checkpoints
from prune_engine.checkpoints.stopping import Stop, StoppedError
from prune_engine.data.built_in import digits
from prune_engine.events import CheckpointEvent, StageEvent, WarningEvent
from prunery.prune import stopped_by_ctrl_c
from tests.trained import digits_net, export

SPEC = PruneSpec(density=0.2, epochs=3, batch_size=140, device="cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "digits.onnx"
    export(digits_net(digits()), torch.zeros(1, 1, 8, 8), path)
    return path


@pytest.fixture(scope="module")
def whole(model: Path) -> PruneResult:
    return prune(model, digits(), SPEC)


def interrupt(model: Path, folder: Path, spec: PruneSpec = SPEC) -> None:
    """Stop after the tenth step."""
    checkpoints = Checkpoints(folder, seconds=0.0)

    def listen(event: Any) -> None:
        if isinstance(event, CheckpointEvent) and event.step == 10:
            checkpoints.stop.ask()

    with pytest.raises(StoppedError):
        prune(model, digits(), spec, listener=listen, checkpoints=checkpoints)


def test_the_same_call_goes_on_and_leaves_nothing(model: Path, whole: PruneResult, tmp_path: Path) -> None:
    interrupt(model, tmp_path / "kept")
    heard: list[Any] = []
    result = prune(model, digits(), SPEC, listener=heard.append, checkpoints=tmp_path / "kept")
    said = [event.message for event in heard if isinstance(event, StageEvent)]
    assert any("step 11 of 30" in message for message in said)
    assert result.model.SerializeToString() == whole.model.SerializeToString()
    assert result.report.curve == whole.report.curve
    assert result.report.settings == whole.report.settings
    assert result.report.warnings == whole.report.warnings
    assert list(tmp_path.iterdir()) == []


def test_warnings_are_told_once_however_many_attempts_there_are(model: Path, tmp_path: Path) -> None:
    few = {name: array[:300] for name, array in digits().items()}
    heard: list[Any] = []
    checkpoints = Checkpoints(tmp_path, seconds=0.0)

    def listen(event: Any) -> None:
        heard.append(event)
        if isinstance(event, CheckpointEvent):
            checkpoints.stop.ask()

    spec = PruneSpec(density=0.2, epochs=2)
    with pytest.raises(StoppedError):
        prune(model, few, spec, listener=listen, checkpoints=checkpoints)
    result = prune(model, few, spec, listener=heard.append, checkpoints=tmp_path)
    told = [event.message for event in heard if isinstance(event, WarningEvent)]
    assert len(told) == len(set(told))
    assert set(result.report.warnings) >= set(told)


def test_one_that_does_not_fit_is_a_warning_and_all_is_done_anew(
    model: Path, whole: PruneResult, tmp_path: Path
) -> None:
    interrupt(model, tmp_path)
    record = json.loads((tmp_path / "checkpoint.json").read_text())
    del record["notes"]["run"]["times"]
    (tmp_path / "checkpoint.json").write_text(json.dumps(record))
    result = prune(model, digits(), SPEC, checkpoints=tmp_path)
    assert result.model.SerializeToString() == whole.model.SerializeToString()
    (said,) = set(result.report.warnings) - set(whole.report.warnings)
    assert "begins anew" in said


def test_another_spec_does_not_go_on(model: Path, tmp_path: Path) -> None:
    interrupt(model, tmp_path)
    spec = SPEC.model_copy(update={"density": 0.3})
    result = prune(model, digits(), spec, checkpoints=tmp_path)
    assert result.report.density.reached == pytest.approx(0.3, abs=1e-4)
    assert any("another spec" in said for said in result.report.warnings)


def test_ctrl_c_waits_for_the_step_and_a_second_one_does_not() -> None:
    stop = Stop()

    def twice() -> None:
        with stopped_by_ctrl_c(stop), stop.deferred():
            signal.raise_signal(signal.SIGINT)
            assert stop.asked
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        twice()
    with pytest.raises(StoppedError), stopped_by_ctrl_c(Stop()):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.chaos
def test_ctrl_c_and_the_same_command_again(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "prunery", "prune", str(model), "--data", "digits", "--density", "0.1"]
    command += ["--epochs", "300", "--batch-size", "32", "--out", str(out)]
    delay = 1.0
    while not (out / "checkpoint").exists():  # until the signal comes after the first step
        assert interrupted(command, delay) == 130
        delay *= 2
    assert [path.name for path in out.iterdir()] == ["checkpoint"]
    again = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert again.returncode == 0, again.stderr
    assert "goes on from a checkpoint" in again.stderr
    assert (out / "model.onnx").exists()
    assert not (out / "checkpoint").exists()


def interrupted(command: list[str], delay: float) -> int:
    """Run a command and interrupt it so many seconds after its training was announced."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "epochs of" in line:
                time.sleep(delay)
                running.send_signal(signal.SIGINT)
                break
        _, said = running.communicate(timeout=120)
        assert "the same command goes on" in said
    return running.returncode
