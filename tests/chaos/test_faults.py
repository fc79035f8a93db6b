"""Whatever happens: every accepted job succeeds once, with its right result, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.cluster import Cluster, cluster
from tests.chaos.disks import NoDiskError, small_disk
from tests.chaos.engine import EngineCluster
from tests.chaos.faults import ENGINE_FAULTS, FAULTS, Fault, full_disk, store_of_files_away
from tests.chaos.uploads import Api, uploads_while_the_api_is_killed
from tests.object_stores import S3

pytestmark = pytest.mark.chaos
JOBS = 20


def all_is_well(made: Cluster, jobs: list[str]) -> None:
    verdict = made.verdict([made.store.get(job_id) for job_id in jobs])
    assert verdict.good, f"{verdict}\n{made.logs()}"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_job_succeeds_once(tmp_path: Path, fault: Fault) -> None:
    with cluster(tmp_path) as made:
        jobs = made.submit(JOBS)
        met = fault(made, jobs)
        all_is_well(made, [job.id for job in jobs])
        assert met or fault.__name__ == "nothing"


@pytest.mark.parametrize("fault", ENGINE_FAULTS, ids=lambda fault: fault.__name__)
def test_a_disturbed_training_comes_to_the_masks_of_an_undisturbed_one(tmp_path: Path, fault: Fault) -> None:
    with cluster(tmp_path, kind=EngineCluster) as made:
        made.undisturbed()
        jobs = made.submit(4)
        assert fault(made, jobs)
        all_is_well(made, [job.id for job in jobs])


def test_every_job_succeeds_once_although_the_disk_is_full_for_a_while(tmp_path: Path) -> None:
    try:
        with (
            small_disk(tmp_path / "disk", "16m") as disk,
            cluster(tmp_path / "cluster", data_dir=disk / "data", min_free_bytes=2**20) as made,
        ):
            jobs = made.submit(JOBS)
            assert full_disk(made, jobs)
            all_is_well(made, [job.id for job in jobs])
    except NoDiskError as error:
        pytest.skip(f"no file system can be mounted here: {error}")


def test_every_job_succeeds_once_although_the_object_store_is_away_for_a_while(
    tmp_path: Path, s3: S3
) -> None:
    with cluster(tmp_path, artifacts_url=s3.url) as made:
        jobs = made.submit(JOBS)
        assert store_of_files_away(made, jobs, s3.switch, 30.0)
        all_is_well(made, [job.id for job in jobs])


def test_uploads_to_an_api_that_is_killed_are_accepted_once(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        api = Api(made.settings, tmp_path / "api.log")
        try:
            accepted = uploads_while_the_api_is_killed(api, JOBS, 3)
        finally:
            api.stop()
        assert len(set(accepted)) == JOBS
        assert sum(made.store.counts().values()) == JOBS
        all_is_well(made, accepted)
