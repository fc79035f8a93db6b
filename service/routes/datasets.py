"""The catalogue of named data sets."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from fastapi import APIRouter

from prune_engine.catalogue import entries
from service.openapi import examples
from service.openapi.responses import json_answer
from service.rooms import InRooms
from service.views import DatasetList, DatasetView

router = APIRouter(tags=["data sets"])


@router.get(
    "/datasets",
    response_model=DatasetList,
    operation_id="listDatasets",
    summary="List the named data sets",
    responses={200: json_answer("The catalogue.", datasets=examples.DATASETS)},
)
async def list_datasets(rooms: InRooms) -> Any:
    """What `dataset=NAME` may be. Where the settings allow it, `hf:owner/name` names any other."""
    settings = rooms.settings
    found = await anyio.to_thread.run_sync(entries, settings.datasets_dir, settings.cache_dir)
    return DatasetList(data=[DatasetView.model_validate(entry.model_dump()) for entry in found])
