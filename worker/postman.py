"""Delivers the messages of webhooks: beside the jobs, a few at a time, each by one worker at a time.

A message is claimed for longer than a request may take, so no two workers send it at once; it is sent once
more only where the worker died between the answer and writing it down, and then under the same id.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from datetime import timedelta
from typing import Final

from jobs.errors import OutgoingFailedError, OutgoingRefusedError, StoreUnavailableError
from jobs.outgoing import Outgoing, host_of
from jobs.record import now
from jobs.settings import Settings
from jobs.webhooks.message import Attempt, State
from jobs.webhooks.outbox import Claimed, Outbox
from jobs.webhooks.retrying import seconds_until
from jobs.webhooks.signing import signed_headers

log = logging.getLogger(__name__)
_AT_ONCE: Final = 4
# Of these, how many to the same host: one that hangs must not keep everybody else's messages waiting.
_AT_ONCE_PER_HOST: Final = 2
_PUT_OFF: Final = (2.0, 6.0)  # seconds, for a message whose host has its share
_ROUNDS: Final = 100  # claims in a row before the next look
_LOOK_EVERY: Final = 1.0
# How much longer than a request a message is claimed: what writing its outcome down may take.
_MARGIN: Final = 30.0
_GOODBYE: Final = 5.0
_GONE: Final = 410


class Postman:
    """Threads that deliver what is due, from `start` to `stop`."""

    def __init__(self, settings: Settings, outbox: Outbox, outgoing: Outgoing) -> None:
        self._retries = settings.webhook_retry_seconds
        self._claim_seconds = settings.outgoing_seconds + _MARGIN
        self._outbox = outbox
        self._outgoing = outgoing
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="postman", daemon=True)
        self._busy: dict[threading.Thread, str] = {}  # the host that each sends to

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def halt(self) -> None:
        """Claim no more; `stop` waits."""
        self._stop.set()

    def stop(self) -> None:
        """Claim no more, and wait a little for what is on its way."""
        self.halt()
        until = time.monotonic() + _GOODBYE
        for thread in (self._thread, *self._busy):
            if thread.ident is None:  # never started
                continue
            thread.join(max(0.0, until - time.monotonic()))

    def _look(self) -> None:
        while not self._stop.wait(_LOOK_EVERY):
            try:
                self._send_off()
            except StoreUnavailableError as error:
                log.warning("webhooks wait, %s", error)
            except Exception:
                log.exception("webhooks wait")

    def _send_off(self) -> None:
        for _ in range(_ROUNDS):
            self._busy = {thread: host for thread, host in self._busy.items() if thread.is_alive()}
            free = _AT_ONCE - len(self._busy)
            if free == 0 or self._stop.is_set():
                return
            claimed = self._outbox.claim(free, self._claim_seconds)
            for one in claimed:
                self._take(one)
            if not claimed:
                return

    def _take(self, claimed: Claimed) -> None:
        """Send a claimed message, or put it off where its host has its share: others come first then."""
        host = host_of(claimed.webhook.url)
        if list(self._busy.values()).count(host) >= _AT_ONCE_PER_HOST:
            self._outbox.put_off(claimed, random.uniform(*_PUT_OFF))  # noqa: S311 - no secret
            return
        thread = threading.Thread(target=self._guarded, args=(claimed,), name="delivery", daemon=True)
        thread.start()
        self._busy[thread] = host

    def _guarded(self, claimed: Claimed) -> None:
        """Whatever fails here, the message stays claimed for a while and is due again after that."""
        try:
            self.deliver(claimed)
        except StoreUnavailableError as error:
            log.warning("%s: %s is sent again, %s", claimed.job_id, claimed.message.id, error)
        except Exception:
            log.exception("%s: %s is sent again", claimed.job_id, claimed.message.id)

    def deliver(self, claimed: Claimed) -> None:
        """Send a claimed message and write down what came of it."""
        if claimed.gone:
            dropped = claimed.message.model_copy(
                update={"state": State.DROPPED, "next_attempt_at": None, "claim": None}
            )
            self._outbox.settle(claimed, dropped, None, "dropped")
            return
        began = time.monotonic()
        at, status, error, headers = now(), None, None, {}
        body = claimed.message.payload.encode()
        try:
            signed = signed_headers(claimed.secret, claimed.message.id, int(at.timestamp()), body)
            answer = self._outgoing.post(
                claimed.webhook.url, body, {"Content-Type": "application/json", **signed}
            )
            status, headers = answer.status, dict(answer.headers)
            if not 200 <= status < 300:
                error = f"the receiver answered {status}; only 2xx counts as delivered"
        except (OutgoingRefusedError, OutgoingFailedError) as failure:
            error = failure.message
        attempt = Attempt(at=at, seconds=round(time.monotonic() - began, 3), status=status, error=error)
        wait = None
        if error is None:
            state, outcome = State.DELIVERED, "delivered"
        elif status == _GONE:
            state, outcome = State.DROPPED, "dropped"
        else:
            wait = seconds_until(self._retries, claimed.message.tries + 1, headers)
            state, outcome = State.FAILED if wait is None else State.PENDING, "failed"
        following = None if wait is None else now() + timedelta(seconds=wait)
        kept = self._outbox.settle(claimed, claimed.message.tried(attempt, state, following), wait, outcome)
        log.info("%s: %s %s", claimed.job_id, claimed.message.id, error or f"delivered, {status}")
        if not kept:
            log.warning("%s: another sends %s too: the claim ran out", claimed.job_id, claimed.message.id)
