"""The command `adaptivedrag`, with every execution of a stage noted in a diary.

Small runs are done with Prefect, too.

python tests/faults/noted_run.py STORE DIARY run job.toml --store STORE ...
"""

import sys
from pathlib import Path

from lives import Errand, noted

import flows.run_job
from cli import app

flows.run_job.FEW_EDITS = 0
location, diary, *arguments = sys.argv[1:]
with noted(Errand(Path(), Path(location), Path(diary))):
    app(arguments)
