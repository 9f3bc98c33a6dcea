"""Datasets, tables and folders as jobs: pictures stay where they are, and scenes are rendered.

A benchmark's own masks are kept, as `user_mask`, for its measures. Its job says `use_mask = false`,
since the protocols of these benchmarks have no masks.
"""

from stages.jobs.importers.csv_table import import_csv
from stages.jobs.importers.drag100 import import_drag100
from stages.jobs.importers.dragbench import import_dragbench
from stages.jobs.importers.dragscenes import dragscenes, import_dragscenes
from stages.jobs.importers.folder import import_folder
from stages.jobs.importers.json_list import import_json
from stages.jobs.importers.parquet import import_parquet
from stages.jobs.importers.writer import Imported

__all__ = [
    "Imported",
    "dragscenes",
    "import_csv",
    "import_drag100",
    "import_dragbench",
    "import_dragscenes",
    "import_folder",
    "import_json",
    "import_parquet",
]
