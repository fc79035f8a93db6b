"""What the command line shows: a live progress bar while a run goes on, a table when it has ended."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from prune_engine.events import ProgressEvent, StageEvent, Told, WarningEvent
from prune_engine.report import Report, TargetInfo

_DECIMALS = {"density": ".2%", "loss": ".4f"}


class RunDisplay:
    """A progress bar fed by the events of a run; on a pipe it prints a line a stage instead."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._live = console.is_terminal and not quiet
        self._progress = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=not self._live,
        )
        self._task = self._progress.add_task("starting", total=1.0, figures="")

    def __enter__(self) -> RunDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Told) -> None:
        """Show an event."""
        if isinstance(event, ProgressEvent):
            figures = "  ".join(
                f"{name} {value:{_DECIMALS.get(name, '.4g')}}" for name, value in event.metrics.items()
            )
            self._progress.update(self._task, completed=event.progress.fraction, figures=figures)
        elif isinstance(event, StageEvent):
            self._progress.update(self._task, description=event.stage)
            if not self._live and not self._quiet:
                self._console.print(
                    f"{event.stage}: {event.message}" if event.message else event.stage, markup=False
                )
        elif isinstance(event, WarningEvent) and not self._quiet:
            self._console.print(f"warning: {event.message}", markup=False, style="yellow")


def show_report(report: Report, console: Console) -> None:
    """Print the figures a person looks for first: before, after, and what changed."""
    quality, size, operations, density = report.quality, report.size, report.operations, report.density
    table = Table(title=f"{report.model.filename} at density {density.reached:.4%}", title_justify="left")
    for heading in ("", "before", "after", "after / before"):
        table.add_column(heading, justify="left" if not heading else "right")
    unit = f" {quality.metric.unit}" if quality.metric.unit else ""
    table.add_row(
        f"{quality.metric.name.replace('_', ' ')} ({quality.pruned.rows} held-out rows)",
        f"{quality.dense.value:.4g}{unit}",
        f"{quality.pruned.value:.4g}{unit}",
        f"{quality.pruned.value - quality.dense.value:+.3g}{unit}",
    )
    _row(table, "prunable weights", density.prunable, density.kept)
    _row(table, "all parameters", density.parameters, density.nonzero_parameters)
    _row(table, "bytes", size.before, size.after)
    _row(table, "bytes, gzip", size.before_gzip, size.after_gzip)
    if operations.before and operations.effective is not None:
        _row(table, "multiply-adds", operations.before, operations.effective)
    if latency := report.latency:
        table.add_row(
            f"latency (batch {latency.batch})",
            f"{latency.before.median_ms:.3g} ms",
            f"{latency.after.median_ms:.3g} ms",
            f"{latency.ratio:.2f}",
        )
    console.print(table)
    if report.frontier:
        console.print(_frontier(report))
    if report.target:
        console.print(_searched(report.target), markup=False)
    if report.latency:
        console.print(report.latency.sentence, markup=False)


def _frontier(report: Report) -> Table:
    """A row for each density."""
    metric = report.quality.metric
    table = Table(
        title=f"dense: {report.quality.dense.value:.4g} {metric.unit}".strip(), title_justify="left"
    )
    for heading in ("density", "kept", metric.name.replace("_", " "), "bytes, gzip", "file"):
        table.add_column(heading, justify="left" if heading == "file" else "right")
    for stop in report.frontier:
        table.add_row(
            f"{stop.density:g}", f"{stop.kept:,}", f"{stop.value:.4g}", f"{stop.gzip_bytes:,}", stop.model
        )
    return table


def _searched(target: TargetInfo) -> str:
    said = "within the target" if target.met else "the target was not met, this comes nearest to it"
    return (
        f"Density {target.density:g}: {target.value:.5g} on the {target.rows:,} rows of the search, where "
        f"{target.limit:.5g} was asked for and the dense model has {target.dense:.5g}; {said}."
    )


def _row(table: Table, name: str, before: int, after: int) -> None:
    ratio = f"{after / before:.4f}" if before else ""
    table.add_row(name, f"{before:,}", f"{after:,}", ratio)
