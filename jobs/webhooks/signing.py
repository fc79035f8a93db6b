"""Signatures of webhooks as Standard Webhooks has them: HMAC-SHA256 with a secret that the job's owner has.

A secret is `whsec_` and 24 to 64 bytes in base64. What is signed is `<id>.<seconds>.<body>`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final

from jobs.errors import WebhookInvalidError

_PREFIX: Final = "whsec_"
_BYTES: Final = range(24, 65)


def new_secret() -> str:
    """A secret that nobody had before."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def check_secret(secret: str) -> str:
    """The secret, where it is one.

    Raises:
        WebhookInvalidError: it is none.
    """
    if _key_of(secret) is None:
        raise WebhookInvalidError(
            "webhook_secret must be whsec_ and 24 to 64 random bytes in base64: "
            'echo "whsec_$(openssl rand -base64 32)"; or leave it out, and the answer has a new one',
            param="webhook_secret",
        )
    return secret


def signed_headers(secret: str, message_id: str, seconds: int, body: bytes) -> dict[str, str]:
    """The headers that a message is sent with at a time."""
    content = f"{message_id}.{seconds}.".encode() + body
    digest = hmac.new(_key_of(secret) or b"", content, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _key_of(secret: str) -> bytes | None:
    if not secret.startswith(_PREFIX):
        return None
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) in _BYTES else None
