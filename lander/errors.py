"""Errors for people: one line with the mistake and its remedy."""

from __future__ import annotations

from difflib import get_close_matches


class ConfigError(ValueError):
    """Bad input from a person: one line with the mistake and its remedy."""


def unknown(kind: str, name: object, known: list[str]) -> str:
    """'unknown KIND "name": did you mean ...' with the nearest name, or all of them."""
    close = get_close_matches(str(name), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
    return f'unknown {kind} "{name}": {hint}'
