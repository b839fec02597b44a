"""Whoever's text is printed, it cannot steer the terminal or forge a line."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lander.terminal import filtered, printable, say, unfiltered

HOSTILE = "a\x1b]0;title\x07\x1b[2J\nmini: 999 complete\r\x9b31m\u202eb\u2028c"


@settings(max_examples=50)
@given(st.text(max_size=20))
def test_every_text_becomes_one_printable_line_and_a_printable_one_stays(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    if text.isprintable():
        assert printable(text) == text


def test_a_lone_surrogate_is_escaped() -> None:
    assert printable("\udc80") == "\\udc80"


def test_a_line_of_anybodys_text_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    say(HOSTILE, error=True)
    out, err = capsys.readouterr()
    assert out == err
    assert out.count("\n") == 1
    assert out[:-1].isprintable()
    assert r"a\x1b]0;title\x07\x1b[2J\nmini: 999 complete\r\x9b31m\u202eb\u2028c" in out


def test_all_that_a_command_prints_is_filtered_but_for_what_it_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with filtered(), filtered():
        print(HOSTILE)
        sys.stdout.writelines(["é\t", "\x1b\n"])
        print("\x1b[1mdrawn\x1b[0m", file=unfiltered(sys.stdout))
    assert sys.stdout is stream
    first, forged, *rest = stream.getvalue().split("\n")
    assert first.isprintable()
    assert forged.startswith("mini: 999 complete\\r")
    assert rest == ["é\\t\\x1b", "\x1b[1mdrawn\x1b[0m", ""]
