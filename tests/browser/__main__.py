"""python -m tests.browser: looks at every page of a small sweep in a headless Chromium.

Debian's package is installed if this process may; without a Chromium one line says so, and nothing
is tested.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from shutil import which
from typing import Final

import pytest

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
PACKAGES: Final = ("chromium", "fonts-dejavu-core")


def chromium() -> str | None:
    """The browser of this machine, if there is one."""
    return next(filter(None, map(which, PROGRAMS)), None)


def install() -> None:
    """Install the browser where that is a matter of one command; errors are seen by its absence."""
    if which("apt-get") is None or os.geteuid() != 0:
        return
    print(f"installing {' and '.join(PACKAGES)}", flush=True)
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", "-qq", *command], stdout=subprocess.DEVNULL, check=False)


def main() -> int:
    if chromium() is None:
        install()
    if chromium() is None:
        print("no page was tested: there is no Chromium; on Debian: apt-get install chromium")
        return 0
    return int(pytest.main(["-m", "browser", str(Path(__file__).parent)]))


if __name__ == "__main__":
    sys.exit(main())
