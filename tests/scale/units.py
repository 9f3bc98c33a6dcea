"""What an edit of `plus` costs in passes of the UNet, as [fidelity.md](fidelity.md#cost) counts.

The test that counts them is run, at full length on a tiny random model.
"""

import re
import subprocess
import sys
from collections.abc import Iterator

from loopback import ROOT
from support.report import Row, Stopwatch

TEST = "tests/stages/test_plus.py::test_an_edit_of_plus_costs_at_most_what_it_may"
FIRST, FURTHER = 250, 200
COST = re.compile(r"\*\*preset `plus`\*\* \| \*\*([\d.]+)\*\* \| \*\*([\d.]+)\*\*")


def rows(_seed: int) -> Iterator[Row]:
    clock = Stopwatch()
    command = [sys.executable, "-m", "pytest", "-q", TEST]
    counted = subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    told = COST.search((ROOT / "docs" / "fidelity.md").read_text("utf-8"))
    assert told
    first, further = map(float, told.groups())
    yield Row(
        "units of an edit of `plus`: first edit of an image, further edit",
        f"at most {FIRST}, at most {FURTHER}",
        f"{first}, {further}" if counted else "not as docs/fidelity.md says",
        counted and first <= FIRST and further <= FURTHER,
        clock.seconds,
    )
