"""Parameters that several operations share."""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import Path

from jobs.errors import JobNotFoundError
from service.openapi.examples import JOB_ID

_ID: Final = re.compile(r"job_[a-z0-9]{1,60}")

JobId = Annotated[str, Path(description="The job's id.", examples=[JOB_ID])]


def check_job_id(job_id: str) -> str:
    """The id, if it can be one; the store is not asked for anything else.

    Raises:
        JobNotFoundError: no job can have this id.
    """
    if not _ID.fullmatch(job_id):
        raise JobNotFoundError(job_id[:64])
    return job_id
