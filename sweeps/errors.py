"""Error messages without secrets, for the terminal, logs and records.

Passwords, tokens and keys are recognised by the text around them: in addresses, connection strings,
mappings and headers. A secret that stands alone is not recognised.
"""

from __future__ import annotations

import re

SECRET = r"(?:token|key|secret|password|passwd|pwd|sig|signature|credentials?)"
"""How the name of a secret ends, in the query of an address."""
NAMED = (
    r"(?:\w*[_-])?(?:password|passwd|pwd|token|secret|signature|credentials?)"
    r"|\w*(?:api|access|secret|private|account)[_-]?key|sslpassword"
)
"""Names of secrets elsewhere, where "key" alone may mean anything."""
VALUE = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s&,;'")\]}]+)"""
"""The value of a name: quoted, as libpq does it, or up to the next separator."""
PORT = r"(?!\d{1,5}(?:[/?#\s,;:)\]'\"]|$))"
"""Text after a colon that is no port number."""
KINDS = (
    # the user part of an address, up to the last @ of the word: a password may hold any character
    (re.compile(rf"(?<=://)[^\s/@:'\"]*:{PORT}[^\s'\"<>]*(?=@)"), ""),
    (re.compile(r"(?<=://)[^\s/?#]*(?=@)"), ""),
    (re.compile(rf"(?<=://)[^\s/@:'\"]*:{PORT}(?=\S)(?:(?!://)[^\n'\"<>])*?(?=@)"), ""),
    # names in a query, in libpq's connection strings, and in printed mappings
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
"""Pattern of a secret, and the part of its match that stays in front of ***."""


def redacted(text: str) -> str:
    """The text with *** instead of every secret."""
    for pattern, prefix in KINDS:
        text = pattern.sub(f"{prefix}***", text)
    return text


def one_line(error: Exception) -> str:
    """The class and the message of an error in at most 500 characters, without secrets."""
    return redacted(" ".join(f"{type(error).__name__}: {error}".split()))[:500]
