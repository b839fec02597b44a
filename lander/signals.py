"""Ctrl-C and termination, deferred to a safe point of training."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Self


class DeferredSignals:
    """Remembers SIGINT and SIGTERM until training is at a safe point, inside a `with` block.

    An exception raised by the signal itself could land inside a callback of the physics engine,
    which drops it.
    """

    def __init__(self) -> None:
        self.signals = 0
        """How many have arrived."""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        self.signals += 1

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has arrived."""
        if self.signals:
            raise KeyboardInterrupt
