"""What was sent to a job's webhook, and sending it again."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Response

from jobs.errors import (
    DeliveryBusyError,
    DeliveryNotFoundError,
    JobNotFoundError,
    WebhookNotFoundError,
    WebhooksOffError,
)
from service.openapi import examples
from service.openapi.responses import json_answer, problems
from service.rooms import InRooms, Rooms
from service.routes.parameters import JobId, check_job_id
from service.views import DeliveryList, DeliveryView, delivery_view

router = APIRouter(tags=["webhooks"])

_ID: Final = Path(description="The delivery's id.", examples=[examples.DELIVERY_ID], max_length=64)


@router.get(
    "/jobs/{job_id}/webhook/deliveries",
    response_model=DeliveryList,
    operation_id="listDeliveries",
    summary="What was sent to the job's webhook",
    responses={
        200: json_answer("Every message, oldest first.", deliveries=examples.DELIVERIES),
        **problems(JobNotFoundError, WebhookNotFoundError),
    },
)
async def list_deliveries(job_id: JobId, rooms: InRooms) -> Any:
    """Every message with every attempt to deliver it: when, how long, which status or why none."""
    await _check(job_id, rooms)
    messages = await rooms.outbox.messages(job_id)
    answer = DeliveryList(data=[delivery_view(job_id, message) for message in messages])
    return Response(answer.model_dump_json(), media_type="application/json")


@router.post(
    "/jobs/{job_id}/webhook/deliveries/{delivery_id}/send",
    status_code=202,
    response_model=DeliveryView,
    operation_id="sendDelivery",
    summary="Send a message to the job's webhook again",
    responses={
        202: json_answer("It is sent within seconds.", pending=examples.SENT_AGAIN),
        **problems(
            JobNotFoundError,
            WebhookNotFoundError,
            DeliveryNotFoundError,
            DeliveryBusyError,
            WebhooksOffError,
        ),
    },
)
async def send_delivery(job_id: JobId, delivery_id: Annotated[str, _ID], rooms: InRooms) -> Any:
    """Whatever became of it: as if for the first time, with all its attempts, under the same id."""
    await _check(job_id, rooms)
    if not rooms.settings.webhooks:
        raise WebhooksOffError("this service sends no webhooks (PRUNERY_WEBHOOKS); ask whoever runs it")
    message = await rooms.outbox.send_again(job_id, delivery_id)
    answer = delivery_view(job_id, message)
    return Response(answer.model_dump_json(), status_code=202, media_type="application/json")


async def _check(job_id: str, rooms: Rooms) -> None:
    """See that there is such a job and that it has a webhook.

    Raises:
        JobNotFoundError, WebhookNotFoundError.
    """
    if (await rooms.store.get(check_job_id(job_id))).webhook is None:
        raise WebhookNotFoundError(f"{job_id} was sent without a webhook", param="job_id")
