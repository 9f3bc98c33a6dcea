"""Drag benchmarks as jobs: published samples stay where they are, and scenes are rendered.

A dataset's own masks are kept, as `user_mask`, for its measures. The jobs say `use_mask = false`,
since the protocols of these benchmarks have no masks.
"""

from stages.jobs.importers.drag100 import import_drag100
from stages.jobs.importers.dragbench import import_dragbench
from stages.jobs.importers.dragscenes import dragscenes, import_dragscenes
from stages.jobs.importers.writer import Imported

__all__ = ["Imported", "dragscenes", "import_drag100", "import_dragbench", "import_dragscenes"]
