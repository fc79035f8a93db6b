"""The figures that the store keeps for all workers and APIs, as Prometheus reads them.

Every API shows the same ones. Over several APIs take the `max` of them and not the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from jobs.figures import MEMORY_BOUNDS, RUN_BOUNDS, WAIT_BOUNDS
from jobs.record import ENDED, PRIORITIES, Status


@dataclass(frozen=True)
class Stored:
    """What the store says now."""

    jobs: Mapping[Status, int] = field(default_factory=dict)
    totals: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[tuple[str, str], int] = field(default_factory=dict)  # by queue and priority
    oldest_seconds: float = 0.0  # that the queued job has waited which was sent first
    workers: int = 0
    webhooks: Mapping[str, int] = field(default_factory=dict)  # attempts to deliver a message, by outcome
    webhooks_waiting: int = 0
    cleaned: Mapping[str, int] = field(default_factory=dict)  # what the cleaner removed


_BY_CODE: Final = {
    "failed": ("prunery_job_failures", "Jobs that failed, by code."),
    "given_back": ("prunery_job_given_back", "Runs that ended without an end of their job, by reason."),
}
_PLAIN: Final = {
    "leases_lost": ("prunery_leases_lost", "Jobs taken from a worker that no longer said that it lives."),
    "checkpoints": ("prunery_checkpoints", "Checkpoints written to the artifact store."),
    "output_bytes": ("prunery_output_bytes", "Bytes of results written to the artifact store."),
}


class StoreFigures(Collector):
    """Shows the figures that it was last given; none while the store is away, but for that it is."""

    def __init__(self) -> None:
        self.now: Stored | None = None

    def collect(self) -> Iterable[Metric]:
        """Every figure."""
        yield GaugeMetricFamily(
            "prunery_store_up", "Whether the job store answers.", value=float(self.now is not None)
        )
        for family in _families(self.now or Stored()):
            if self.now is None:
                family.samples.clear()  # no figure, as a zero would look like a store that began anew
            yield family


def _families(stored: Stored) -> Iterable[Metric]:
    yield from _gauges(stored)
    for kind, (name, about) in _BY_CODE.items():
        family = CounterMetricFamily(name, about, labels=["code"])
        for key, count in stored.totals.items():
            if key.startswith(f"{kind}:"):
                family.add_metric([key.partition(":")[2]], count)
        yield family
    for key, (name, about) in _PLAIN.items():
        yield CounterMetricFamily(name, about, value=stored.totals.get(key, 0))
    yield from _histograms(stored.totals)


def _gauges(stored: Stored) -> Iterable[Metric]:
    jobs = GaugeMetricFamily("prunery_jobs", "Jobs in the store.", labels=["status"])
    for status in Status:
        jobs.add_metric([status.value], stored.jobs.get(status, 0))
    yield jobs
    outcomes = GaugeMetricFamily(
        "prunery_job_outcomes",
        "Jobs since the store began: created, succeeded, cancelled, failed:<code>, given_back:<code>.",
        labels=["outcome"],
    )
    for outcome, count in stored.totals.items():
        if outcome in ("created", "succeeded", "cancelled") or outcome.startswith(tuple(_BY_CODE)):
            outcomes.add_metric([outcome], count)
    yield outcomes
    waiting = GaugeMetricFamily(
        "prunery_queue_waiting", "Jobs waiting for a worker.", labels=["queue", "priority"]
    )
    for (queue, priority), number in stored.waiting.items():
        waiting.add_metric([queue, priority], number)
    yield waiting
    yield GaugeMetricFamily(
        "prunery_queue_depth", "Jobs waiting for a worker.", value=stored.jobs.get(Status.QUEUED, 0)
    )
    yield GaugeMetricFamily(
        "prunery_queue_oldest_seconds",
        "How long ago the queued job was sent that was sent first.",
        value=stored.oldest_seconds,
    )
    yield GaugeMetricFamily("prunery_workers", "Workers that live.", value=stored.workers)
    webhooks = GaugeMetricFamily(
        "prunery_webhook_attempts",
        "Attempts to deliver a webhook's message since the store began: delivered, failed, dropped.",
        labels=["outcome"],
    )
    for outcome, count in stored.webhooks.items():
        webhooks.add_metric([outcome], count)
    yield webhooks
    cleaned = GaugeMetricFamily(
        "prunery_cleaned",
        "What the cleaner removed since the store began: jobs, files, bytes, keys; refused: rounds in which "
        "the files belonged to another job store.",
        labels=["what"],
    )
    for what, count in stored.cleaned.items():
        cleaned.add_metric([what], count)
    yield cleaned
    yield GaugeMetricFamily(
        "prunery_webhooks_waiting",
        "Messages of webhooks that are yet to be sent.",
        value=stored.webhooks_waiting,
    )


def _histograms(totals: Mapping[str, int]) -> Iterable[Metric]:
    wait = HistogramMetricFamily(
        "prunery_job_wait_seconds", "From a job's submission to its first start.", labels=["priority"]
    )
    for priority in PRIORITIES:
        _add(wait, [priority], f"wait:{priority}", WAIT_BOUNDS, totals)
    yield wait
    run = HistogramMetricFamily(
        "prunery_job_run_seconds", "From a job's first start to its end.", labels=["outcome"]
    )
    for status in sorted(ENDED):
        _add(run, [status.value], f"run:{status.value}", RUN_BOUNDS, totals)
    yield run
    memory = HistogramMetricFamily(
        "prunery_child_peak_memory_bytes", "Most memory that a job's processes had (resident).", labels=[]
    )
    _add(memory, [], "memory", MEMORY_BOUNDS, totals)
    yield memory


def _add(
    family: HistogramMetricFamily,
    labels: list[str],
    name: str,
    bounds: Iterable[int],
    totals: Mapping[str, int],
) -> None:
    buckets = [(str(float(bound)), float(totals.get(f"{name}:le:{bound}", 0))) for bound in bounds]
    buckets.append(("+Inf", float(totals.get(f"{name}:count", 0))))
    family.add_metric(labels, buckets, totals.get(f"{name}:sum", 0) / 1000)
