"""Drag benchmarks as jobs: published samples stay where they are, and scenes are rendered.

A dataset's own masks are kept, as `user_mask`, for comparison; no job uses them unless it sets
`build_mask.mode = "user"`.
"""

from stages.jobs.importers.drag100 import import_drag100
from stages.jobs.importers.dragbench import import_dragbench
from stages.jobs.importers.dragscenes import dragscenes, import_dragscenes
from stages.jobs.importers.writer import Imported

__all__ = ["Imported", "dragscenes", "import_drag100", "import_dragbench", "import_dragscenes"]
