"""The command `prunery`. What a subcommand needs is imported when it runs: `prunery --help` stays quick."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from prune_engine.processors import prepare_libraries
from prunery.inspect import register as register_inspect
from prunery.keys import register as register_keys
from prunery.prune import register as register_prune

app = typer.Typer(
    name="prunery",
    help="Pruning as a service: a trained model and a target density in, a pruned ONNX and a report out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"prunery {version('prunery')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Pruning as a service."""
    prepare_libraries(os.environ)


@app.command()
def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: any free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of everything that is kept.")] = None,
    workers: Annotated[int | None, typer.Option(help="Jobs that run at the same time.")] = None,
) -> None:
    """Run the API, the workers and a private job store on this machine; Ctrl-C ends all of it.

    Each option is also a setting: PRUNERY_HOST, PRUNERY_PORT, PRUNERY_DATA_DIR, PRUNERY_WORKERS, in the
    environment or in `.env`. With REDIS_URL set, that server is used instead of a private one.
    """
    from jobs.reading_settings import read_settings
    from prune_engine.errors import PruneError
    from prunery.up import up as run

    given: dict[str, Any] = {"host": host, "port": port, "data_dir": data_dir, "workers": workers}
    try:
        settings = read_settings(**{name: value for name, value in given.items() if value is not None})
        status = run(settings, typer.echo)
    except PruneError as error:
        typer.echo(f"error: {error.message} [{error.code}]", err=True)
        raise typer.Exit(error.exit_status) from None
    raise typer.Exit(status)


register_prune(app)
register_inspect(app)
register_keys(app)


def main() -> None:
    """Run the command line."""
    app()
