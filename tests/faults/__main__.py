"""The fault tests at full size, and their report.

    make faults
    make faults ONLY=corruption SEED=7

runs every module of this folder that has a function `rows(seed)`, or those named, and writes their
tables between their marks in `docs/reliability.md`. Tables of other modules stay. Modules run two
at a time, each in its own process. Exit code 1 if any figure was missed.
"""

import sys
from pathlib import Path

from support.report import Report

HERE = Path(__file__).parent
LONG = ("real_runs", "fuzz", "power_loss", "kills")
"""Modules that start first, so that none runs alone at the end."""

if __name__ == "__main__":
    report = Report(HERE, HERE.parents[1] / "docs" / "reliability.md", at_once=2, first=LONG)
    sys.exit(report.main("Fault tests at full size."))
