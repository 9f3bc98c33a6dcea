"""Another segmenter: one file with a class and a line in the table, and edits are done with it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import adaptivedrag
from adaptivedrag.config import EditConfig
from adaptivedrag.model.weights import find_segmenter
from adaptivedrag.segmenter import kinds as table
from adaptivedrag.segmenter.kinds import SEGMENTERS, SegmenterKind, kind_of, load_segmenter


@dataclass(frozen=True)
class Tiles:
    """Sees a picture as squares of one size, which a text file names."""

    size: int

    def image_features(self, image):
        return [np.moveaxis(image[::4, ::4].astype(np.float32), -1, 0)]

    def segments(self, image, at_once=None):
        rows, cols = np.indices(image.shape[:2]) // self.size
        numbers = rows * 1000 + cols
        return np.array([numbers == number for number in np.unique(numbers)])


TILES = SegmenterKind(
    "tiles",
    recognizes=lambda path: path.suffix == ".tiles",
    files=lambda path: (path,),
    load=lambda path, _device: Tiles(int(path.read_text())),
)


@pytest.fixture
def tiles(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(table, "SEGMENTERS", (TILES, *SEGMENTERS))
    path = tmp_path / "large.tiles"
    path.write_text("32")
    return path


def test_a_segmenter_is_added_by_one_declaration_and_edits_use_it(tiny_model_directory, tiles):
    assert load_segmenter(tiles) == Tiles(32)
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    config = EditConfig().merged(
        {
            "train_lora": {"steps": 0},
            "invert_image": {"num_steps": 4, "inverted_steps": 2},
            "optimize_latent": {"steps": 1, "max_steps": 1},
            "build_mask": {"mode": "segment"},
        }
    )
    result = adaptivedrag.edit(
        image,
        [((40, 40), (60, 40))],
        model=str(tiny_model_directory),
        segmenter=str(tiles),
        config=config,
    )
    tile = np.zeros((96, 96), bool)
    tile[32:64, 32:64] = True
    assert np.array_equal(result.mask, tile)


def test_the_files_of_the_pocket_segmenter_are_all_that_its_directory_holds(tmp_path):
    directory = find_segmenter("pocket")
    assert set(kind_of(directory).files(directory)) == set(directory.iterdir())
    checkpoint = tmp_path / "sam2.pt"
    checkpoint.write_bytes(b"")
    assert kind_of(checkpoint).files(checkpoint) == (checkpoint,)
