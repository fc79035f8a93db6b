"""`prunery inspect`: what a job with a model would find, without a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from prune_engine.errors import PruneError

_PIPE_WIDTH = 160

errors = Console(stderr=True, highlight=False)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("inspect")(_inspect)


def _inspect(
    model: Annotated[Path, typer.Argument(help="The model file.", show_default=False)],
    density: Annotated[
        str | None, typer.Option(help="The density you will ask for.", metavar="VALUE", show_default=False)
    ] = None,
    frontier: Annotated[
        str | None,
        typer.Option(help="The densities you will ask for: 0.5,0.2,0.1.", metavar="VALUES"),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help='What may be lost: {"max_accuracy_drop": 0.01}.', metavar="JSON"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="A data set's name or a data file: does it fit?", show_default=False),
    ] = None,
    include: Annotated[
        str | None,
        typer.Option(help="Patterns of the names to prune, as in a job.", metavar="PATTERNS"),
    ] = None,
    exclude: Annotated[
        str | None,
        typer.Option(help="Patterns of the names to leave dense.", metavar="PATTERNS"),
    ] = None,
    granularity: Annotated[
        str | None,
        typer.Option(help="weight, n:m or RxC: which weights does it fit?", metavar="VALUE"),
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="A tokenizer.json, for text data.")] = None,
    input_specs: Annotated[
        str | None,
        typer.Option(
            help='Inputs of TorchScript as JSON: {"x": [[null, 3, 32, 32], "float32"]}.', metavar="JSON"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the page into this file.", metavar="FILE")] = None,
) -> None:
    """Look through MODEL in seconds: operators, weights, what a job would take, what is wrong.

    Exit status 2, with the code of the error, where it cannot be pruned.
    """
    fields = {
        "density": density,
        "frontier": frontier,
        "target": target,
        "include": include,
        "exclude": exclude,
        "granularity": granularity,
        "input_specs": input_specs,
    }
    asked = {name: value for name, value in fields.items() if value is not None}
    raise typer.Exit(_run(model, data, tokenizer, asked, as_json, html))


def _run(
    model: Path,
    data: str | None,
    tokenizer: Path | None,
    fields: dict[str, Any],
    as_json: bool,
    html: Path | None,
) -> int:
    """Inspect and show; 0 it can be pruned, 2 it cannot."""
    from jobs.reading_settings import read_settings
    from prune_engine.spec import parse_spec, with_density

    try:
        parse_spec(with_density(fields, 1.0))
        settings = read_settings()
        from prune_engine.api import inspect  # torch: only once the request is known to be sound

        found = inspect(model, data, fields, tokenizer=tokenizer, datasets_dir=settings.datasets_dir)
    except PruneError as error:
        typer.echo(f"error: {error.message} [{error.code}]", err=True)
        return error.exit_status
    if html is not None:
        from prune_engine.inspection_page import render_inspection

        html.write_text(render_inspection(found), encoding="utf-8")
        errors.print(f"wrote {html}", markup=False)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        from prunery.inspection_tables import show_inspection

        # Tables are made for the terminal; in a pipe or a log there is room for whole names.
        show_inspection(found, Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH))
    for problem in found.problems:
        typer.echo(f"error: {problem.message} [{problem.code}]", err=True)
    return 0 if found.prunable else 2
