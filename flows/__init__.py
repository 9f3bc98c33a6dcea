"""Runs stages over many edits with Prefect; the only package that imports it.

Importing `flows` or `flows.run_job` loads neither Prefect nor torch. Prefect reports its first
import to its makers from an interactive terminal unless a setting forbids it, so it is set here,
before any module of this package can import it.
"""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")
