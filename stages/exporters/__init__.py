"""Results taken away as datasets: folders of images, Parquet, and tar files for WebDataset."""

from stages.exporters.export import Exported, export_job
from stages.exporters.formats import FORMATS
from stages.exporters.target import Limit

__all__ = ["FORMATS", "Exported", "Limit", "export_job"]
