"""What becomes of accepted jobs when processes, connections, disks and stores fail.

    python -m benchmarks.reliability              writes results/reliability.{json,md}
    python -m benchmarks.reliability full_disk    measures these rows anew

Real workers, a real Valkey and real signals; the faults are those of `make test-chaos`. Most rows run a small
program that keeps checkpoints and writes down when it did each of its steps, so that work done by two at a
time would be seen; the rows of the engine are trainings whose masks are compared with those of an undisturbed
one.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS, store
from jobs.record import Job
from tests.chaos.cluster import Cluster, Verdict, cluster
from tests.chaos.disks import NoDiskError, small_disk
from tests.chaos.engine import EngineCluster
from tests.chaos.faults import ENGINE_FAULTS, FAULTS, Fault, full_disk, store_of_files_away
from tests.chaos.uploads import Api, uploads_while_the_api_is_killed
from tests.object_stores import BUCKET, SeaweedFS, s3_environment
from tests.switch import Switch

STORED = RESULTS / "reliability.json"
JOBS = 20
TRAININGS = 4
AWAY = 30.0
Row = dict[str, Any]


def main() -> None:
    """Run every fault, or those that are named, and write the table."""
    chosen = sys.argv[1:]
    there = json.loads(STORED.read_text())["rows"] if chosen else []
    rows = {row["fault"]: row for row in there}
    for name, measure in measures().items():
        if name in chosen or not chosen:
            row = measure()
            print(row, flush=True)
            rows[row["fault"]] = row
    table = list(rows.values())
    bad = [row for row in table if any(row[name] for name in ("lost", "doubled", "wrong", "left behind"))]
    notes = [
        f"{sum(row['jobs'] for row in table)} jobs, {sum(row['faults'] for row in table)} faults; {len(bad)} "
        "rows in which a job was lost, worked on by two at a time, ended twice, came to another result, or "
        "left a process, file or key.",
        "Two workers, a lease of 3 s renewed every 0.5 s; a lost worker costs a lease and two looks: with "
        "the defaults, by arithmetic, 30 to 45 s. `resumed`: jobs that went on from a checkpoint of an "
        "earlier attempt.",
    ]
    store("reliability", "Jobs under faults", table, notes)


def measures() -> dict[str, Callable[[], Row]]:
    """Every row of the table, by the name of its fault."""
    small = {fault.__name__: partial(with_jobs, fault) for fault in FAULTS}
    real = {f"{fault.__name__}_of_the_engine": partial(with_trainings, fault) for fault in ENGINE_FAULTS}
    return {**small, "killed_api": killed_api, "files_away": files_away, "full_disk": disk_full, **real}


def with_jobs(fault: Fault) -> Row:
    """A fault and the small program."""
    with measured(fault.__doc__) as row, folder() as here, cluster(here) as made:
        jobs = made.submit(JOBS)
        row["faults"] = fault(made, jobs)
        judge(row, made, jobs)
    return row


def with_trainings(fault: Fault) -> Row:
    """A fault and the engine."""
    with (
        measured(f"{fault.__doc__}, the engine on digits") as row,
        folder() as here,
        cluster(here, kind=EngineCluster) as made,
    ):
        made.undisturbed()
        jobs = made.submit(TRAININGS)
        row["faults"] = fault(made, jobs)
        judge(row, made, jobs)
    return row


def killed_api() -> Row:
    """The API is killed while clients upload."""
    with measured("`kill -9` of the API during uploads") as row, folder() as here, cluster(here) as made:
        api = Api(made.settings, here / "api.log")
        row["faults"] = 3
        accepted = uploads_while_the_api_is_killed(api, JOBS, row["faults"])
        api.stop()
        judge(row, made, [made.store.get(job_id) for job_id in set(accepted)])
        row["doubled"] += sum(made.store.counts().values()) - JOBS
    return row


def files_away() -> Row:
    """The object store answers 503."""
    with measured(f"the object store answers 503 for {AWAY:.0f} s") as row, ExitStack() as stack:
        here = stack.enter_context(folder())
        (here / "seaweedfs").mkdir()
        server = SeaweedFS(here / "seaweedfs")
        server.start()
        stack.callback(server.stop)
        switch = Switch((server.host, server.s3_port))
        stack.callback(switch.close)
        os.environ |= s3_environment(f"http://127.0.0.1:{switch.port}")
        made = stack.enter_context(cluster(here / "cluster", artifacts_url=f"s3://{BUCKET}/reliability"))
        jobs = made.submit(JOBS)
        row["faults"] = 1
        store_of_files_away(made, jobs, switch, AWAY)
        judge(row, made, jobs)
    return row


def disk_full() -> Row:
    """The disk of the workers and of the files is full."""
    with measured("scratch and artifacts on a full disk for 5 s") as row, folder() as here:
        try:
            with (
                small_disk(here / "disk", "16m") as disk,
                cluster(here / "cluster", data_dir=disk / "data", min_free_bytes=2**20) as made,
            ):
                jobs = made.submit(JOBS)
                row["faults"] = full_disk(made, jobs)
                judge(row, made, jobs)
        except NoDiskError:
            row |= dict.fromkeys(("jobs", "faults", "lost", "doubled", "wrong", "left behind"), 0)
            row["fault"] += " (not run: no right to mount one)"
    return row


@contextmanager
def measured(fault: str | None) -> Iterator[Row]:
    """A row, with its seconds at the end."""
    began = time.monotonic()
    row: Row = {"fault": fault}
    yield row
    row["seconds"] = round(time.monotonic() - began)


def judge(row: Row, made: Cluster, jobs: list[Job]) -> None:
    """Wait for the jobs and count what came of them."""
    verdict: Verdict = made.verdict(jobs)
    row |= {
        "jobs": verdict.jobs,
        "lost": len(verdict.lost),
        "doubled": len(verdict.doubled),
        "wrong": len(verdict.wrong),
        "left behind": len(verdict.strays),
        "attempts": verdict.attempts,
        "resumed": verdict.resumed,
    }
    if not verdict.good:
        print(verdict, made.logs(), flush=True)


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder, gone with all that is in it."""
    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        yield Path(name)


if __name__ == "__main__":
    main()
