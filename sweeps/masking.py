"""Passwords stay out of all that is shown or kept."""

from __future__ import annotations

import re

IN_ADDRESS = re.compile(r"(?<=://)[^\s/@]*:[^\s/]*(?=@)|(?<=[?&]password=)[^\s&]*")
"""user:password before an address's host, or a password among its options."""


def masked(text: str) -> str:
    """The text with *** in the place of every password in an address."""
    return IN_ADDRESS.sub("***", text)


def one_line(error: Exception) -> str:
    """An error as it may be shown and kept: its kind and its message, not at length."""
    return masked(" ".join(f"{type(error).__name__}: {error}".split()))[:500]
