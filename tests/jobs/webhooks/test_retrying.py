from __future__ import annotations

import pytest

from jobs.settings import Settings
from jobs.webhooks.retrying import seconds_until

RETRIES = Settings(_env_file=None).webhook_retry_seconds


def test_the_waits_grow_for_three_days_and_then_end() -> None:
    waits = [seconds_until(RETRIES, tries, {}) for tries in range(1, len(RETRIES))]
    assert len(waits) == 9
    for wait, least in zip(waits, RETRIES[1:], strict=True):
        assert wait is not None
        assert least <= wait <= least * 1.2
    assert seconds_until(RETRIES, len(RETRIES), {}) is None
    assert sum(RETRIES) > 3 * 24 * 3600


def test_chance_makes_waits_differ() -> None:
    assert len({seconds_until(RETRIES, 3, {}) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [("100", 100, 100), ("1", 5, 6), ("999999999", 86400, 86400), ("-5", 5, 6), ("soon", 5, 6), ("²", 5, 6)],
)
def test_a_receiver_may_ask_for_a_longer_wait_up_to_a_day(said: str, least: float, most: float) -> None:
    wait = seconds_until(RETRIES, 1, {"retry-after": said})
    assert wait is not None
    assert least <= wait <= most
