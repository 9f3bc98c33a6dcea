"""The command `adaptivedrag`, with every execution of a stage noted in a diary.

python tests/faults/noted_run.py STORE DIARY run job.toml --store STORE ...
"""

import sys
from pathlib import Path

from lives import Errand, noted

from cli import app

location, diary, *arguments = sys.argv[1:]
with noted(Errand(Path(), Path(location), Path(diary))):
    app(arguments)
