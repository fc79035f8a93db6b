from __future__ import annotations

import pytest

from jobs.errors import OutgoingRefusedError, WebhookInvalidError, WebhooksOffError
from jobs.record import ENDS
from jobs.settings import Settings
from jobs.webhooks.asking import secret_of, webhook_of
from jobs.webhooks.signing import check_secret, new_secret

URL = "https://example.com/hook"
ON = Settings(_env_file=None, webhooks=True)


def test_nothing_asked_is_nothing() -> None:
    for fields in ({}, {"webhook": " "}, {"webhook": "", "webhook_secret": "", "webhook_events": ""}):
        assert webhook_of(fields, Settings(_env_file=None)) is None


def test_webhooks_are_off_unless_the_settings_let_them() -> None:
    with pytest.raises(WebhooksOffError, match="PRUNERY_WEBHOOKS"):
        webhook_of({"webhook": URL}, Settings(_env_file=None))


def test_an_address_alone_is_told_of_every_end() -> None:
    webhook = webhook_of({"webhook": f" {URL} "}, ON)
    assert webhook is not None
    assert (webhook.url, webhook.events) == (URL, ENDS)
    assert check_secret(secret_of({"webhook": URL}))


@pytest.mark.parametrize("text", ["job.started, job.failed", '["job.started","job.failed"]'])
def test_events_are_words_with_commas_or_json(text: str) -> None:
    webhook = webhook_of({"webhook": URL, "webhook_events": text}, ON)
    assert webhook is not None
    assert webhook.events == ("job.started", "job.failed")


def test_a_secret_that_was_sent_is_kept() -> None:
    secret = new_secret()
    fields = {"webhook": URL, "webhook_secret": f" {secret} "}
    assert webhook_of(fields, ON) is not None
    assert secret_of(fields) == secret


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"webhook_secret": new_secret()}, "webhook_secret"),
        ({"webhook_events": "job.failed"}, "webhook_events"),
        ({"webhook": URL, "webhook_secret": "hunter2"}, "webhook_secret"),
        *(
            ({"webhook": URL, "webhook_events": text}, "webhook_events")
            for text in ("job.deleted", "[]", "[", "{}", "job.failed,,", "[[]]", "[" * 100_000)
        ),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_name(fields: dict[str, str], param: str) -> None:
    with pytest.raises(WebhookInvalidError) as refusal:
        webhook_of(fields, ON)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    "url", ["http://example.com/", "https://127.0.0.1/", "nonsense", "https://u:p@example.com/"]
)
def test_an_address_that_may_not_be_sent_to_is_refused_at_once(url: str) -> None:
    with pytest.raises(OutgoingRefusedError) as refusal:
        webhook_of({"webhook": url}, ON)
    assert refusal.value.param == "webhook"
