"""A change of what a stage computes must raise its STAGE_VERSION, or old results would be served.

`stage_sources.json` holds a hash of each stage's sources with all modules of the method they use,
comments and docstrings left out. After a change: raise STAGE_VERSION if the stage's numbers can
change (for `adaptivedrag.warp.content` CONTENT_VERSION instead, which stages share), add a line
to the CHANGELOG, and run this file with ADAPTIVEDRAG_RECORD=1 to note the new hashes.
"""

import json
import os
from pathlib import Path

import pytest

from stages import evaluate
from stages.pipeline import STAGES
from stages.planning.sources import source_digest

RECORDED = Path(__file__).with_name("stage_sources.json")
VERSIONS = {stage.name: stage.version for stage in STAGES} | {
    evaluate.STAGE: evaluate.STAGE_VERSION
}


@pytest.mark.parametrize("stage", VERSIONS)
def test_the_sources_of_a_stage_are_those_noted_for_its_version(stage):
    now = {"version": VERSIONS[stage], "sources": source_digest(stage)}
    noted = json.loads(RECORDED.read_text("utf-8")) if RECORDED.exists() else {}
    if os.environ.get("ADAPTIVEDRAG_RECORD"):
        RECORDED.write_text(json.dumps({**noted, stage: now}, indent=2) + "\n", "utf-8")
        return
    assert noted.get(stage) == now, __doc__
