"""The child process of a job: a folder in, events on stdout, files out.

`python -m prune_engine run DIR`. The worker that starts it may kill it at any moment; nothing outside DIR is
written.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prune_engine.errors import PruneError, SpecError
from prune_engine.events import DoneEvent, ErrorEvent, StartedEvent
from prune_engine.spec import parse_spec

Say = Callable[[str], None]

MODEL_NAMES = ("model.onnx", "model.pt", "model.pt2", "model.zip")
DATA_NAMES = ("data.npz", "data.zip", "data.csv", "data.parquet")


def run(folder: Path) -> int:
    """Do the job that lies in `folder`; return the exit status (0 done, 2 bad input, 1 otherwise)."""
    say = _claim_stdout()
    say(StartedEvent(pid=os.getpid()).model_dump_json())
    return _guarded(lambda: _prune(folder, say), say)


def fetch(name: str, datasets_dir: Path | None, cache_dir: Path | None) -> int:
    """Get a named data set and say where it lies, as `{"path": ...}`; the exit statuses are `run`'s."""
    say = _claim_stdout()
    return _guarded(lambda: _fetch(name, datasets_dir, cache_dir, say), say)


def _guarded(work: Callable[[], None], say: Say) -> int:
    """Turn whatever `work` raises into an `error` event and an exit status."""
    try:
        work()
    except PruneError as error:
        say(ErrorEvent(code=error.code, message=error.message, param=error.param).model_dump_json())
        return error.exit_status
    except MemoryError:
        traceback.print_exc()
        message = (
            "the job needs more memory than this worker has; use a smaller model, batch_size or data set"
        )
        say(ErrorEvent(code="out_of_memory", message=message).model_dump_json())
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug becomes an answer
        traceback.print_exc()
        message = f"a bug in Prunery, please report it: {type(error).__name__}: {error}"[:500]
        say(ErrorEvent(code="internal_error", message=message).model_dump_json())
        return 1
    return 0


def _fetch(name: str, datasets_dir: Path | None, cache_dir: Path | None, say: Say) -> None:
    from prune_engine.catalogue import default_cache_dir
    from prune_engine.catalogue import fetch as fetch_dataset

    path = fetch_dataset(name, datasets_dir=datasets_dir, cache_dir=cache_dir or default_cache_dir())
    say(json.dumps({"path": str(path)}))


def _prune(folder: Path, say: Say) -> None:
    spec = parse_spec(_json(folder / "spec.json"))
    about = _json(folder / "job.json")
    model, data = _one_of(folder, MODEL_NAMES), _one_of(folder, DATA_NAMES)
    tokenizer = folder / "tokenizer.json"

    from prune_engine.api import Labels, prune

    labels = Labels(
        job_id=about.get("job_id"),
        model_filename=about.get("model_filename"),
        data_name=about.get("dataset_name"),
        data_source=about.get("dataset_source", "supplied"),
    )
    result = prune(
        model,
        data,
        spec,
        listener=lambda event: say(event.model_dump_json()),
        tokenizer=tokenizer if tokenizer.exists() else None,
        labels=labels,
    )
    outputs = result.save(folder / "out")
    report = result.report
    done = DoneEvent(density=report.density.reached, metrics=report.summary(), outputs=outputs)
    say(done.model_dump_json())


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
