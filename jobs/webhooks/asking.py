"""What a submission asks of its webhook: the fields `webhook`, `webhook_secret` and `webhook_events`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, get_args

from pydantic import ValidationError

from jobs.errors import OutgoingRefusedError, WebhookInvalidError, WebhooksOffError
from jobs.outgoing import Rules
from jobs.record import Webhook, WebhookEvent
from jobs.settings import Settings
from jobs.webhooks.signing import check_secret, new_secret

FIELDS: Final = ("webhook", "webhook_secret", "webhook_events")
_EVENTS: Final = get_args(WebhookEvent)


def webhook_of(fields: Mapping[str, str], settings: Settings) -> Webhook | None:
    """The webhook that the fields ask for, if they do.

    Raises:
        WebhooksOffError: this service has no webhooks.
        WebhookInvalidError: a field cannot be used.
        OutgoingRefusedError: the address may not be sent to. Its name is resolved when a message is sent.
    """
    url, secret, events = (fields.get(name, "").strip() for name in FIELDS)
    if not url:
        if lonely := next((name for name in FIELDS if fields.get(name, "").strip()), None):
            raise WebhookInvalidError(f"{lonely} was sent without webhook; send its address", param=lonely)
        return None
    if not settings.webhooks:
        raise WebhooksOffError(
            "this service tells no webhooks; leave webhook out and ask for the job (GET /jobs/ID?wait=30), "
            "or ask whoever runs the service (PRUNERY_WEBHOOKS)"
        )
    try:
        Rules.of(settings).target(url)
    except OutgoingRefusedError as error:
        raise OutgoingRefusedError(f"webhook: {error.message}", param="webhook") from None
    asked: dict[str, Any] = {"url": url} | ({"events": _listed(events)} if events else {})
    try:
        webhook = Webhook.model_validate(asked)
    except ValidationError:
        raise WebhookInvalidError(
            f"webhook_events must be some of {', '.join(_EVENTS)}, with commas between them",
            param="webhook_events",
        ) from None
    if secret:
        check_secret(secret)
    return webhook


def secret_of(fields: Mapping[str, str]) -> str:
    """The secret that was sent with the webhook, or a new one."""
    return fields.get("webhook_secret", "").strip() or new_secret()


def _listed(text: str) -> list[str]:
    """Words with commas between them, or a list in JSON."""
    if text.startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        return [str(one) for one in found] if isinstance(found, list) else [text]
    return [one.strip() for one in text.split(",")]
