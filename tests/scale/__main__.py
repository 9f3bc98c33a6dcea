"""A dataset across workers at full size, and its report.

    make scale
    make scale ONLY=deaths SEED=7

runs every module of this folder that has a function `rows(seed)`, or those named, one after the
other, and writes their tables between their marks in `docs/scale.md`. Exit code 1 if any figure was
missed.
"""

import sys
from pathlib import Path

from support.report import Report

HERE = Path(__file__).parent

if __name__ == "__main__":
    report = Report(HERE, HERE.parents[1] / "docs" / "scale.md")
    sys.exit(report.main("A dataset across workers."))
