"""Errors for people: one line with the mistake and its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


class ConfigError(ValueError):
    """Bad input from a person: one line with the mistake and its remedy."""


def unknown(kind: str, name: object, known: Sequence[str]) -> str:
    """'unknown KIND "name": did you mean ...' with the nearest name, or all of them."""
    near = nearest(str(name), known)
    hint = f"did you mean {near}?" if near else f"known: {', '.join(sorted(known))}"
    return f'unknown {kind} "{name}": {hint}'


def nearest(name: str, known: Sequence[str]) -> str:
    """The known name that is most like this one, or that it is the last part of; "" if none is.

    >>> nearest("clip_range", ["ppo.clip_range", "ppo.clip_range_schedule"])
    'ppo.clip_range'
    """
    whole = [word for word in known if word.rpartition(".")[2] == name]
    return next(iter(whole or get_close_matches(name, known, n=1)), "")
