"""What happens to real clusters, made to happen: each fault is a function that breaks a cluster at work.

They are called once the jobs are accepted, and return how often they have done their worst; `FAULTS` has them
in the order of the table.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from jobs.record import Job, Status
from tests.chaos.cluster import Cluster
from tests.switch import Switch

Fault = Callable[[Cluster, list[Job]], int]


def nothing(cluster: Cluster, jobs: list[Job]) -> int:
    """nothing"""
    return 0


def killed_children(cluster: Cluster, jobs: list[Job]) -> int:
    """`kill -9` of the child"""
    return _each_once(cluster, jobs, 10, lambda job: _kill_child(cluster, job))


def killed_workers(cluster: Cluster, jobs: list[Job]) -> int:
    """`kill -9` of the worker"""
    return _each_once(cluster, jobs, 4, lambda job: _replace(cluster, job, signal.SIGKILL))


def killed_workers_and_children(cluster: Cluster, jobs: list[Job]) -> int:
    """`kill -9` of worker and child"""

    def kill(job: Job) -> bool:
        return _kill_child(cluster, job) and _replace(cluster, job, signal.SIGKILL)

    return _each_once(cluster, jobs, 4, kill)


def deploys(cluster: Cluster, jobs: list[Job]) -> int:
    """SIGTERM to the worker, a new one beside it"""
    return _each_once(cluster, jobs, 4, lambda job: _replace(cluster, job, signal.SIGTERM))


def stopped_workers(cluster: Cluster, jobs: list[Job]) -> int:
    """SIGSTOP of a worker past its lease, then SIGCONT"""

    def stop(job: Job) -> bool:
        worker = cluster.owner_of(job)
        if worker is None:
            return False
        worker.send_signal(signal.SIGSTOP)
        if cluster.store.get(job.id).status is Status.RUNNING:
            cluster.eventually(lambda: cluster.store.get(job.id).attempt > job.attempt, 90)
        worker.send_signal(signal.SIGCONT)
        return cluster.store.get(job.id).attempt > job.attempt

    return _each_once(cluster, jobs, 2, stop)


def killed_store(cluster: Cluster, jobs: list[Job]) -> int:
    """`kill -9` of Valkey, started again from its file"""
    for _ in range(3):
        cluster.eventually(lambda: cluster.running() or _over(cluster, jobs))
        cluster.kill_store()
        time.sleep(1.0)
        cluster.restart_store()
        time.sleep(1.0)
    return 3


def cut_connections(cluster: Cluster, jobs: list[Job]) -> int:
    """every connection to Valkey reset"""
    for _ in range(10):
        time.sleep(0.7)
        cluster.switch.cut()
    return 10


def duplicates(cluster: Cluster, jobs: list[Job]) -> int:
    """each message six times"""
    for job in jobs:
        for _ in range(5):
            cluster.doorbell.ring(job.id)
    return 5 * len(jobs)


def lost_messages(cluster: Cluster, jobs: list[Job]) -> int:
    """the queue emptied, the records left"""
    lost = 0
    names = [f"{cluster.settings.redis_prefix}{queue}" for queue in cluster.settings.queues]
    for _ in range(3):
        lost += sum(cluster.store._redis.llen(name) for name in names)
        cluster.store._redis.delete(*names)
        time.sleep(2.0)
    return lost


FAULTS: tuple[Fault, ...] = (
    nothing,
    killed_children,
    killed_workers,
    killed_workers_and_children,
    deploys,
    stopped_workers,
    killed_store,
    cut_connections,
    duplicates,
    lost_messages,
)
# For trainings that take longer than the children of the others.
ENGINE_FAULTS: tuple[Fault, ...] = (killed_children, killed_workers_and_children, deploys)


def full_disk(cluster: Cluster, jobs: list[Job]) -> int:
    """scratch and artifacts full for five seconds"""
    filler = cluster.settings.data_dir / "filler"
    for _ in range(2):
        cluster.eventually(lambda: cluster.running() or _over(cluster, jobs))
        _fill(filler)
        time.sleep(5.0)
        filler.unlink()
        time.sleep(1.0)
    return 2


def store_of_files_away(cluster: Cluster, jobs: list[Job], switch: Switch, seconds: float) -> int:
    """the object store answers 503"""
    cluster.eventually(lambda: cluster.running() or _over(cluster, jobs))
    with switch.away():
        time.sleep(seconds)
    return switch.refused


def _each_once(cluster: Cluster, jobs: list[Job], times: int, act: Callable[[Job], bool]) -> int:
    """Do something to `times` running jobs, to each once; how often it was done before all had ended."""
    met: set[str] = set()
    until = time.monotonic() + 120
    while len(met) < times and not _over(cluster, jobs) and time.monotonic() < until:
        for job in cluster.running():
            if job.id not in met and len(met) < times and act(job):
                met.add(job.id)
        time.sleep(0.05)
    return len(met)


def _over(cluster: Cluster, jobs: list[Job]) -> bool:
    return cluster.store.counts()[Status.SUCCEEDED] == len(jobs)


def _replace(cluster: Cluster, job: Job, number: signal.Signals) -> bool:
    """Start a worker, and end the one that has the job."""
    worker = cluster.owner_of(job)
    if worker is None:
        return False
    cluster.worker()
    worker.send_signal(number)
    assert worker.wait(20) == (0 if number == signal.SIGTERM else -number)
    return True


def _kill_child(cluster: Cluster, job: Job) -> bool:
    child = cluster.child_of(job)
    if child is None:
        return False
    try:
        os.kill(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
