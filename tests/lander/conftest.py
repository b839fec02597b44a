"""One thread before the first op: the order of sums depends on the number of threads."""

from __future__ import annotations

import pytest
import torch

from lander.__main__ import main

torch.set_num_threads(1)


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that must fail."""
    capsys.readouterr()
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lander: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err
