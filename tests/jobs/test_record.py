"""Ids of jobs: they sort by time, which is the order of the queue and of every list."""

from __future__ import annotations

import re
import time

from jobs.record import new_job_id, sent_at


def test_ids_sort_by_time_also_within_a_millisecond() -> None:
    made = []
    for _ in range(200):
        made.append(new_job_id())
        begun = time.time_ns()
        while time.time_ns() - begun < 2_000:  # the next microsecond
            pass
    assert made == sorted(made)
    assert len(set(made)) == 200


def test_an_id_says_when_its_job_was_sent() -> None:
    before = time.time()
    job_id = new_job_id()
    assert re.fullmatch(r"job_[0-9a-f]{22}", job_id)
    assert before - 0.001 <= sent_at(job_id) <= time.time()
