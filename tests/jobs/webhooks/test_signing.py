"""Signatures are those that the library of Standard Webhooks makes and takes."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import WebhookInvalidError
from jobs.webhooks.signing import check_secret, new_secret, signed_headers


@given(st.binary(min_size=24, max_size=64), st.text())
def test_the_library_makes_the_same_signature_and_takes_ours(key: bytes, text: str) -> None:
    secret = f"whsec_{base64.b64encode(key).decode()}"
    seconds = int(time.time())
    body = text.encode("utf-8", "surrogatepass")
    if body.decode("utf-8", "ignore").encode() != body:
        return
    headers = signed_headers(secret, "msg_1", seconds, body)
    theirs = standardwebhooks.Webhook(secret)
    assert headers["webhook-signature"] == theirs.sign("msg_1", datetime.fromtimestamp(seconds, UTC), text)


def test_the_library_verifies_and_refuses_what_was_changed() -> None:
    secret = new_secret()
    headers = signed_headers(secret, "msg_1", int(time.time()), b'{"a": 1}')
    assert standardwebhooks.Webhook(secret).verify(b'{"a": 1}', headers) == {"a": 1}
    for body, changed in ((b'{"a": 2}', {}), (b'{"a": 1}', {"webhook-id": "msg_2"})):
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(secret).verify(body, headers | changed)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(new_secret()).verify(b'{"a": 1}', headers)


def test_new_secrets_are_taken_and_never_the_same() -> None:
    assert check_secret(new_secret()) != check_secret(new_secret())


@pytest.mark.parametrize(
    "secret",
    [
        *("", "whsec_", "hunter2", "whsec_hunter2", "whsec_" + "A" * 31, "whsec_" + "!" * 32),
        *("whsec_" + base64.b64encode(b"k" * 23).decode(), "whsec_" + base64.b64encode(b"k" * 65).decode()),
        base64.b64encode(b"k" * 32).decode(),
    ],
)
def test_what_is_no_secret_is_refused_without_saying_it_again(secret: str) -> None:
    with pytest.raises(WebhookInvalidError) as refusal:
        check_secret(secret)
    assert not secret or secret == "whsec_" or secret not in refusal.value.message
