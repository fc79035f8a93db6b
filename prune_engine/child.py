"""The child process of a job: a folder in, events on stdout, files out.

`python -m prune_engine run DIR`. `python -m prune_engine inspect DIR` only looks. Whoever starts it
may kill it at any moment; nothing outside DIR is written.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_engine import network_guard
from prune_engine.catalogue import is_from_hub
from prune_engine.checkpoints.stopping import EXIT_STATUS, Stop, StoppedError
from prune_engine.errors import ModelTooLargeError, OutOfMemoryError, PruneError, SpecError
from prune_engine.events import DoneEvent, ErrorEvent, InspectedEvent, StartedEvent, StoppedEvent
from prune_engine.memory import is_out_of_memory
from prune_engine.ranks import joined, others, processes_here, rank, require_gpus
from prune_engine.spec import PruneSpec, parse_spec, with_density

if TYPE_CHECKING:
    from prune_engine.api import Labels

Say = Callable[[str], None]

MODEL_NAMES = ("model.onnx", "model.pt", "model.pt2", "model.zip")
_LONGEST_MESSAGE = 4000  # a name in it may be as long as its sender likes
_NO_DISK = ("no space left on device", "os error 28", "disk quota exceeded")
DATA_NAMES = ("data.npz", "data.zip", "data.csv", "data.parquet")


def run(folder: Path, ranks: int | None = None) -> int:
    """Do the job that lies in `folder`; return the exit status.

    It is 0 for done, 2 for bad input, 3 for stopped by SIGTERM, 1 otherwise. A job that was stopped, or ended
    by anything else, goes on from its last checkpoint, which lies in `folder` too.

    Args:
        folder: the job.
        ranks: processes that train together; None: as many as the spec asks GPUs for.
    """
    say, stop = _claim_stdout(), Stop()
    if rank():
        say = _say_nothing

    def work() -> None:
        # Ranks other than the first are ended by it.
        signal.signal(signal.SIGTERM, signal.SIG_IGN if rank() else lambda *_: stop.now())
        say(StartedEvent(pid=os.getpid()).model_dump_json())
        _prune_together(folder, ranks, say, stop)

    return _guarded(work, say)


def _say_nothing(_: str) -> None:
    """What ranks other than the first say on stdout."""


def _prune_together(folder: Path, wanted: int | None, say: Say, stop: Stop) -> None:
    """`_prune` in as many processes as train together."""
    spec = parse_spec(_json(folder / "spec.json"))
    if spec.gpus > 1:
        require_gpus(spec.gpus)
    count = wanted or spec.gpus
    if joined():
        _prune_as_rank(folder, spec, say, stop)
    elif count > 1:
        with others(count, folder):
            _prune_as_rank(folder, spec, say, stop)
    else:
        _prune(folder, say, stop)


def _prune_as_rank(folder: Path, spec: PruneSpec, say: Say, stop: Stop) -> None:
    from prune_engine.environment import choose_device
    from prune_engine.training import distributed

    distributed.join(choose_device(spec.device, processes_here()))
    try:
        _prune(folder, say, stop)
    except distributed.HelperFinishedError:
        pass
    except StoppedError:
        raise  # the others may wait in the midst of a step: nobody can take leave of them
    except BaseException:
        distributed.leave()
        raise
    distributed.leave()


def inspect(folder: Path) -> int:
    """Look through the model that lies in `folder`; the exit statuses are `run`'s.

    A model that can be read but not pruned is no error here: the inspection says what is wrong with it.
    """
    say = _claim_stdout()
    return _guarded(lambda: _inspect(folder, say), say)


def fetch(name: str, datasets_dir: Path | None, cache_dir: Path | None) -> int:
    """Get a named data set and say where it lies, as `{"path": ...}`; the exit statuses are `run`'s."""
    say = _claim_stdout()
    if is_from_hub(name):
        network_guard.install()  # its files may name any address
    return _guarded(lambda: _fetch(name, datasets_dir, cache_dir, say), say)


def _guarded(work: Callable[[], None], say: Say) -> int:
    """Turn whatever `work` raises into an `error` event and an exit status."""
    try:
        work()
    except StoppedError:
        _say_last(say, StoppedEvent())
        return EXIT_STATUS
    except PruneError as error:
        message = error.message[:_LONGEST_MESSAGE]
        _say_last(say, ErrorEvent(code=error.code, message=message, param=error.param))
        return error.exit_status
    except RecursionError:
        said = ModelTooLargeError("The model or its data are nested deeper than can be followed here.")
        _say_last(say, ErrorEvent(code=said.code, message=said.message, param=said.param))
        return said.exit_status
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug becomes an answer
        traceback.print_exc()
        if is_out_of_memory(error):
            message = "more memory is needed than there is; use a smaller model, batch_size or data set"
            _say_last(say, ErrorEvent(code=OutOfMemoryError.code, message=message))
            return OutOfMemoryError.exit_status
        if _is_out_of_disk(error):
            message = "the disk of the machine that ran the job is full"
            _say_last(say, ErrorEvent(code="disk_full", message=message))
            return 1
        message = f"a bug in Prunery, please report it: {type(error).__name__}: {error}"[:500]
        _say_last(say, ErrorEvent(code="internal_error", message=message))
        return 1
    return 0


def _say_last(say: Say, event: DoneEvent | ErrorEvent | StoppedEvent) -> None:
    """The last event; nobody can stop what has ended."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(event.model_dump_json())


def _is_out_of_disk(error: Exception) -> bool:
    """By its number, or, as torch and safetensors say it, by words or a number of the operating system."""
    said = str(error).lower()
    return getattr(error, "errno", None) == errno.ENOSPC or any(word in said for word in _NO_DISK)


def _fetch(name: str, datasets_dir: Path | None, cache_dir: Path | None, say: Say) -> None:
    from prune_engine.catalogue import default_cache_dir
    from prune_engine.catalogue import fetch as fetch_dataset

    path = fetch_dataset(name, datasets_dir=datasets_dir, cache_dir=cache_dir or default_cache_dir())
    say(json.dumps({"path": str(path)}))


def _prune(folder: Path, say: Say, stop: Stop) -> None:
    spec = parse_spec(_json(folder / "spec.json"))
    about = _json(folder / "job.json")
    model, data = _one_of(folder, MODEL_NAMES), _one_of(folder, DATA_NAMES)
    tokenizer = folder / "tokenizer.json"

    from prune_engine.api import prune
    from prune_engine.checkpoints.keeper import SECONDS, Checkpoints

    seconds = float(about.get("checkpoint_seconds", SECONDS))
    checkpoints = Checkpoints(folder, seconds, stop, writes=rank() == 0)
    result = prune(
        model,
        data,
        spec,
        listener=lambda event: say(event.model_dump_json()),
        tokenizer=tokenizer if tokenizer.exists() else None,
        labels=_labels(about),
        checkpoints=checkpoints,
    )
    outputs = result.save(folder / "out")
    report = result.report
    done = DoneEvent(density=report.density.reached, metrics=report.summary(), outputs=outputs)
    _say_last(say, done)
    checkpoints.end()


def _inspect(folder: Path, say: Say) -> None:
    """`spec.json`, `job.json` and the data are optional; `job.json` may have `dataset_path` and `notes`."""
    fields = _json(folder / "spec.json") if (folder / "spec.json").exists() else {}
    parse_spec(with_density(fields, 1.0))  # a wrong field is refused before torch is imported
    about = _json(folder / "job.json") if (folder / "job.json").exists() else {}
    model = _one_of(folder, MODEL_NAMES)
    supplied = next((folder / name for name in DATA_NAMES if (folder / name).exists()), None)
    elsewhere = about.get("dataset_path")
    tokenizer = folder / "tokenizer.json"

    from prune_engine.api import inspect as inspect_model
    from prune_engine.inspection_page import render_inspection

    inspection = inspect_model(
        model,
        supplied or (Path(elsewhere) if elsewhere else None),
        fields,
        tokenizer=tokenizer if tokenizer.exists() else None,
        labels=_labels(about),
        notes=about.get("notes", ()),
    )
    out = folder / "out"
    out.mkdir(exist_ok=True)
    (out / "inspection.json").write_text(inspection.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (out / "inspection.html").write_text(render_inspection(inspection), encoding="utf-8")
    outputs = ["inspection.json", "inspection.html"]
    say(InspectedEvent(prunable=inspection.prunable, outputs=outputs).model_dump_json())


def _labels(about: dict[str, Any]) -> Labels:
    from prune_engine.api import Labels

    return Labels(
        job_id=about.get("job_id"),
        model_filename=about.get("model_filename"),
        data_name=about.get("dataset_name"),
        data_source=about.get("dataset_source", "supplied"),
        sandbox=about.get("sandbox"),
    )


def _one_of(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise SpecError(f"{folder.name} holds none of {', '.join(names)}", param=names[0].partition(".")[0])


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"{path.name}: {error}") from None
    if not isinstance(content, dict):
        raise SpecError(f"{path.name}: holds no JSON object")
    return content


def _claim_stdout() -> Say:
    """Keep stdout for events alone: what libraries print goes to stderr, C code's output included."""
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    def say(line: str) -> None:
        private.write(line + "\n")
        private.flush()

    return say
