"""What every test rests on."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Ctrl-C works in the processes that tests start: a shell that runs pytest in the background
    has it ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
