"""Secrets stay out of all that is shown or kept: masked by kind, wherever they stand."""

from __future__ import annotations

import re

SECRET = r"(?:token|key|secret|password|passwd|pwd|sig|signature|credentials?)"
"""How the name of a secret ends."""
NAMED = (
    r"(?:\w*[_-])?(?:password|passwd|pwd|token|secret|signature|credentials?)"
    r"|\w*(?:api|access|secret|private|account)[_-]?key|sslpassword"
)
"""The same outside of addresses, where a key may be anything."""
VALUE = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s&,;'")\]}]+)"""
"""Quoted, as libpq does it, or up to what ends it."""
PORT = r"(?!\d{1,5}(?:[/?#\s,;:)\]'\"]|$))"
"""A number behind a colon, and then a path: no password."""
KINDS = (
    # the user part of an address: up to the last @ of its word, a password may hold any sign
    (re.compile(rf"(?<=://)[^\s/@:'\"]*:{PORT}[^\s'\"<>]*(?=@)"), ""),
    (re.compile(r"(?<=://)[^\s/?#]*(?=@)"), ""),
    (re.compile(rf"(?<=://)[^\s/@:'\"]*:{PORT}(?=\S)(?:(?!://)[^\n'\"<>])*?(?=@)"), ""),
    # keys of a query, of libpq's connection strings, of mappings that are shown
    (re.compile(rf"([?&;][\w.-]*{SECRET}=)[^\s&#;'\"]*", re.IGNORECASE), r"\1"),
    (re.compile(rf"((?<![\w?&;.-])(?:{NAMED})\s*=\s*){VALUE}", re.IGNORECASE), r"\1"),
    (re.compile(rf"((['\"])(?:{NAMED})\2\s*:\s*){VALUE}", re.IGNORECASE), r"\1"),
    # headers
    (re.compile(r"(\bauthorization['\"]?\s*[:=]\s*['\"]?)[^\n'\",]+", re.IGNORECASE), r"\1"),
    (
        re.compile(
            rf"((?<![\w?&;-])x-[\w-]*{SECRET}['\"]?\s*[:=]\s*['\"]?)[^\s'\",]+", re.IGNORECASE
        ),
        r"\1",
    ),
    (re.compile(r"(\bbearer\s+)(?!tokens?\b|auth\w*\b|\*\*\*)[^\s'\",;)]+", re.IGNORECASE), r"\1"),
    (re.compile(r"(\bBasic\s+)(?=[^\s'\"]*[\d=])[A-Za-z0-9+/]{4,}={0,2}"), r"\1"),
)
"""A secret, and what of it is shown before ***."""


def redacted(text: str) -> str:
    """The text with *** for every secret."""
    for kind, shown in KINDS:
        text = kind.sub(f"{shown}***", text)
    return text


def one_line(error: Exception) -> str:
    """An error as it may be shown and kept: its kind and its message, not at length."""
    return redacted(" ".join(f"{type(error).__name__}: {error}".split()))[:500]
