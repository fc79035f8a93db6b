"""Whatever happens: every accepted job succeeds once, with its right result, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.cluster import cluster
from tests.chaos.faults import FAULTS, Fault

pytestmark = pytest.mark.chaos
JOBS = 20


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_job_succeeds_once(tmp_path: Path, fault: Fault) -> None:
    with cluster(tmp_path) as made:
        jobs = made.submit(JOBS)
        met = fault(made, jobs)
        verdict = made.verdict(jobs)
        assert verdict.good, f"{verdict}\n{made.logs()}"
        assert met or fault.__name__ == "nothing"
