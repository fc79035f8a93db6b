"""What Prometheus reads at /metrics. Each application has a registry of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from jobs.artifacts import ArtifactStore
from jobs.disk import space_of
from jobs.settings import Settings
from service.figures import Stored, StoreFigures

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})


def disks(settings: Settings, artifacts: ArtifactStore) -> dict[str, Path]:
    """The folders of this machine that fill up."""
    kept = {} if artifacts.folder is None else {"artifacts": artifacts.folder}
    return kept | {"scratch": settings.scratch}


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._requests = Counter(
            "prunery_http_requests",
            "Requests answered; status 0: the client hung up before an answer.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "prunery_http_request_seconds",
            "Seconds from a request's first byte to its answer's last.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.uploaded = Counter(
            "prunery_uploaded_bytes", "Bytes of files received.", ["kind"], registry=self.registry
        )
        self.submitted = Counter("prunery_jobs_submitted", "Jobs accepted.", registry=self.registry)
        self.refused = Counter(
            "prunery_jobs_refused", "Submissions refused, by code.", ["code"], registry=self.registry
        )
        self.inspected = Counter(
            "prunery_inspections",
            "Models looked through: prunable, not_prunable, or the code of the error.",
            ["outcome"],
            registry=self.registry,
        )
        self._stored = StoreFigures()
        self.registry.register(self._stored)
        self._free = Gauge(
            "prunery_disk_free_bytes",
            "Bytes free where files are kept: artifacts (a local folder) and this process's scratch.",
            ["folder"],
            registry=self.registry,
        )
        self._reserve = Gauge(
            "prunery_disk_reserve_bytes", "Bytes that new uploads leave free.", registry=self.registry
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that has been answered."""
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(known, route).observe(seconds)

    def measure(self, settings: Settings, folders: Mapping[str, Path]) -> None:
        """Look at the disks."""
        self._reserve.set(settings.min_free_bytes)
        for name, folder in folders.items():
            with contextlib.suppress(OSError):
                self._free.labels(name).set(space_of(folder, settings.min_free_bytes).free)

    def render(self, stored: Stored | None) -> bytes:
        """The text that Prometheus reads, with what the store says now; None: it does not answer."""
        self._stored.now = stored
        return generate_latest(self.registry)
