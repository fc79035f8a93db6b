"""Asking a run to stop so that it can go on later: SIGTERM to the child, Ctrl-C to `prunery prune`. Light."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

EXIT_STATUS = 3
"""Of a child that stopped because it was asked to."""


class StoppedError(BaseException):
    """The run ends here because it was asked to. No error of its own: nobody may catch it on the way."""


class Stop:
    """Whether a run was asked to stop, and whether it may do so right now.

    Attributes:
        asked: it was.
    """

    def __init__(self) -> None:
        self.asked = False
        self._deferred = 0

    def ask(self) -> None:
        """Ask; from any thread, at any time."""
        self.asked = True

    def now(self) -> None:
        """Ask, and stop at once unless a training is under way: for handlers of signals.

        Raises:
            StoppedError: none is.
        """
        self.ask()
        self.look()

    def look(self) -> None:
        """A moment at which the run may end.

        Raises:
            StoppedError: it was asked to.
        """
        if self.asked and not self._deferred:
            raise StoppedError

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Meanwhile only whoever writes checkpoints ends the run; afterwards it ends if it was asked to."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1
        self.look()
