"""Code, tests and docs have one spelling, the American one, and say things plainly."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

BRITISH = (
    "artefact",
    "behaviour",
    "cancelled",
    "catalogue",
    r"(?<!off-)centre",
    "colour",
    "defence",
    "favour",
    "flavour",
    "grey",
    "honour",
    "initialis",
    "judgement",
    "labelled(?!by)",
    "learnt",
    "localis",
    "minimis",
    "modelled",
    "neighbour",
    "normalis",
    "optimis",
    "organis",
    "quantis",
    "randomis",
    "rasteris",
    "recognis",
    "signalled",
    "specialis",
    "standardis",
    "synchronis",
    r"towards\b",
    "utilis",
    "whilst",
)
TICS = (
    r"\banew\b",
    r"\bmend(s|ed|ing)?\b",
    r"\bis told\b",
    r"\btells of\b",
    r"\bso many\b",
    r"\bso long a\b",
    r"\bwherever that is\b",
    r"\bwithout a word\b",
    r"\bis to be (made|done|kept|read|given)\b",
    r"\bare to be (made|done|kept|read|given)\b",
    r"\bfor want of\b",
)
STORED = {
    "adaptivedrag/pocket_training/training.py": ("optimiser.",),  # tensors of saved states
    "adaptivedrag/scenes/": ('"grey"', "'grey'"),  # captions, which the model reads
    "flows/workers/on_dask.py": ("CancelledError", ".cancelled()"),  # Python's names
    "flows/workers/worker.py": ("Cancelled", "CANCELLED"),  # Prefect's names of a state
    "stages/evaluate.py": ('"judgement"',),  # the part that stored evaluations have
}
"""Words that enter keys, stored documents or captions, by where they are."""

ITSELF = "tests/test_words.py"


def _texts() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.toml", "*.html", "Makefile", "Dockerfile", "deploy"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split() if name != ITSELF]


def _found(words: tuple[str, ...]) -> list[str]:
    pattern = re.compile("|".join(words), re.IGNORECASE)
    found = []
    for path in _texts():
        name = path.relative_to(ROOT).as_posix()
        allowed = [
            word for place, each in STORED.items() if name.startswith(place) for word in each
        ]
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            plain = line
            for word in allowed:
                plain = plain.replace(word, "")
            if match := pattern.search(plain):
                found.append(f"{name}:{number}: {match[0]!r} in {line.strip()[:80]}")
    return found


@pytest.mark.parametrize("words", [BRITISH, TICS], ids=["spelling", "tics"])
def test_words_are_plain_and_american(words):
    found = _found(words)
    assert not found, "\n".join(found)


def test_the_lists_find_what_they_are_for():
    assert re.search("|".join(BRITISH), "the colour of a neighbour")
    assert not re.search("|".join(BRITISH), "off-centre")
    assert re.search("|".join(TICS), "keys are computed anew")
