"""`prunery prune`: the engine on this machine, without a server."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.markup import escape

from prune_engine.checkpoints.stopping import Stop, StoppedError
from prune_engine.errors import PruneError
from prune_engine.spec import PruneSpec, parse_spec

errors = Console(stderr=True, highlight=False)


def register(app: typer.Typer) -> None:
    """Add the command; its options are `PruneSpec`'s fields, so that none is ever missing."""

    def command(
        model: Path, data: str, out: Path, tokenizer: Path | None, quiet: bool, **fields: Any
    ) -> None:
        """Prune MODEL (ONNX, TorchScript, .pt2) to the density asked for and write the result into --out."""
        asked = {name: value for name, value in fields.items() if value is not None}
        raise typer.Exit(_prune(model, data, out, tokenizer, quiet, asked))

    own = [
        _parameter("model", Path, typer.Argument(help="The model file.", show_default=False)),
        _parameter(
            "data", str, typer.Option(help="A data set's name (`digits`, `cifar10`, ...) or a data file.")
        ),
        _parameter("out", Path, typer.Option(help="The folder for the results."), Path("out")),
        _parameter("tokenizer", Path | None, typer.Option(help="A tokenizer.json, for text data."), None),
        _parameter("quiet", bool, typer.Option("--quiet", "-q", help="No progress bar, no table."), False),
    ]
    spec = [_spec_parameter(name, field) for name, field in PruneSpec.model_fields.items()]
    command.__signature__ = inspect.Signature([*own, *spec])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *spec]}
    app.command("prune")(command)


def _parameter(name: str, kind: Any, how: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, how]
    )


def _spec_parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """A field of the spec as an option; its text is checked by the spec itself, with the spec's errors."""
    required = field.is_required()
    default = "" if required or field.default in (None, ()) else f" Default: {field.default}."
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        help=escape(f"{field.description}{default}"),  # brackets are rich's markup
        show_default=False,
        metavar="VALUE",
    )
    return _parameter(
        name, str if required else str | None, option, inspect.Parameter.empty if required else None
    )


@contextmanager
def stopped_by_ctrl_c(stop: Stop) -> Iterator[None]:
    """Ctrl-C finishes the step and writes a checkpoint; once more, and it ends at once."""

    def handle(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop.now()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _require_writable(out: Path) -> None:
    """Refuse a folder that could not be written after hours of training; it is made with the first file.

    Raises:
        BadParameter: it is a file, or neither it nor the folder that it would be in may be written.
    """
    there = next(path for path in (out.absolute(), *out.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise typer.BadParameter(f"{there} is no folder", param_hint="--out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{there} cannot be written", param_hint="--out")


def _prune(
    model: Path, data: str, out: Path, tokenizer: Path | None, quiet: bool, fields: dict[str, Any]
) -> int:
    """Run the engine; 0 done, 2 bad input, 1 the work failed."""
    from jobs.reading_settings import read_settings
    from prunery.display import RunDisplay, show_report

    stop = Stop()
    _require_writable(out)
    try:
        spec = parse_spec(fields)
        settings = read_settings()
        from prune_engine.api import prune  # torch: only once the request is known to be sound
        from prune_engine.checkpoints.keeper import Checkpoints

        checkpoints = Checkpoints(out / "checkpoint", stop=stop)
        with RunDisplay(errors, quiet=quiet) as display, stopped_by_ctrl_c(stop):
            result = prune(
                model,
                data,
                spec,
                listener=display,
                tokenizer=tokenizer,
                datasets_dir=settings.datasets_dir,
                checkpoints=checkpoints,
            )
            files = result.save(out)
        checkpoints.end()
    except StoppedError:
        typer.echo("stopped; the same command goes on from the last checkpoint, if there is one", err=True)
        return 130
    except PruneError as error:
        typer.echo(f"error: {error.message} [{error.code}]", err=True)
        return error.exit_status
    except OSError as error:
        typer.echo(
            f"error: {error}; the same command goes on from the last checkpoint, if there is one", err=True
        )
        return 1
    if not quiet:
        show_report(result.report, Console())
        errors.print(
            f"wrote {', '.join(name for name in files if not name.startswith('figures/'))} into {out}/",
            markup=False,
        )
    return 0
