"""Parquet with the pictures in it, as the hub's datasets have them; written by pyarrow."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptivedrag.errors import InvalidEdit
from stages.exporters.sample import PICTURES, Sample

if TYPE_CHECKING:
    import pyarrow

SUFFIX = ".parquet"
OVERHEAD = 0
ROWS_AT_ONCE = 64
BYTES_AT_ONCE = 1 << 25
"""Of a row group: what a reader, and the writer, have to hold."""
_DTYPES = {"double": "float64"}
"""Names of types that the hub's datasets write otherwise than Arrow."""


def opener() -> "Callable[[Path], ParquetShard]":
    """Return what begins a shard.

    Raises:
        InvalidEdit: if pyarrow is not here.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise InvalidEdit(
            "Parquet is written by pyarrow, which is not here: pip install 'adaptivedrag[parquet]'"
        ) from None
    return ParquetShard


class ParquetShard:
    """A file of rows, in groups of some megabytes."""

    def __init__(self, path: Path) -> None:
        """Begin an empty file."""
        from pyarrow.parquet import ParquetWriter

        self._file, self._schema = path.open("wb"), _schema()
        # Statistics of pictures would be copies of them.
        self._writer = ParquetWriter(self._file, self._schema, write_statistics=False)
        self._rows: list[dict[str, Any]] = []
        self._size = 0

    def add(self, sample: Sample) -> None:
        """Take in an edit; write a group of them when it is large enough."""
        pictures = {
            column: {"bytes": data, "path": f"{sample.name}.{column}.png"}
            for column, data in sample.pictures.items()
        }
        self._rows.append({**sample.row, **pictures})
        self._size += sum(map(len, sample.pictures.values()))
        if len(self._rows) == ROWS_AT_ONCE or self._size >= BYTES_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Write what is left, and the footer."""
        with self._file:
            self._flush()
            self._writer.close()

    def _flush(self) -> None:
        import pyarrow

        if self._rows:
            self._writer.write_table(pyarrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows, self._size = [], 0


def rows(shard: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a shard, with pictures as bytes and path."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(shard) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE):
            yield from batch.to_pylist()


def _schema() -> "pyarrow.Schema":
    """Return the columns, with what they are to the hub's datasets."""
    import pyarrow as pa

    text, number, count = pa.string(), pa.float64(), pa.int32()
    picture = pa.struct({"bytes": pa.binary(), "path": text})
    schema = pa.schema(
        {
            "id": text,
            **dict.fromkeys(PICTURES, picture),
            "prompt": text,
            "tags": pa.list_(text),
            "points": pa.list_(pa.list_(number)),
            **dict.fromkeys(("width", "height"), count),
            **dict.fromkeys(("preset", "variant", "verdict"), text),
            **dict.fromkeys(("distance", "relative", "outside", "mask_share"), number),
            "tracker": text,
            **dict.fromkeys(("scores", "vote", "note", "mask_of", "scene"), text),
            "mask_rle": pa.struct({"size": pa.list_(count), "counts": text}),
            "provenance": pa.struct(dict.fromkeys(PICTURES, text)),
        }
    )
    features = {
        field.name: {"_type": "Image"} if field.name in PICTURES else _feature(field.type)
        for field in schema
    }
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _feature(type_: "pyarrow.DataType") -> Any:
    import pyarrow.types as kinds

    if kinds.is_struct(type_):
        return {field.name: _feature(field.type) for field in type_}
    if kinds.is_list(type_):
        return [_feature(type_.value_type)]
    return {"dtype": _DTYPES.get(str(type_), str(type_)), "_type": "Value"}
