"""The vocabulary of CLIP's tokenizers, which follows from the list of their merges."""

import gzip
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

CONFIGS = Path(str(files("adaptivedrag"))) / "model" / "configs"
"""Settings that families of models were published with."""
MERGES = CONFIGS / "clip" / "merges.txt.gz"
"""The merges of all CLIP tokenizers, one a line."""

_PRINTABLE = (*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256))
"""Bytes that stand for themselves in the vocabulary; the others have letters from 256 upward."""


def is_packed(folder: Path) -> bool:
    """Tell whether a folder with a tokenizer's settings leaves the vocabulary to `MERGES`."""
    return folder.is_relative_to(CONFIGS) and not (folder / "merges.txt").is_file()


def packed_tokenizer(settings: dict[str, Any]) -> "CLIPTokenizer":
    """Make a tokenizer of `MERGES`; its settings are those of a tokenizer_config.json."""
    from transformers import CLIPTokenizer

    with gzip.open(MERGES, "rt", encoding="utf-8") as lines:
        merges = [tuple(line.split()) for line in lines]
    words = [*_letters(), *(f"{letter}</w>" for letter in _letters())]
    words += ["".join(pair) for pair in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({word: number for number, word in enumerate(words)}, merges, **settings)


def _letters() -> list[str]:
    others = [byte for byte in range(256) if byte not in _PRINTABLE]
    return [*map(chr, _PRINTABLE), *(chr(256 + number) for number in range(len(others)))]
