"""Which sources a stage's numbers come from."""

from stages.pipeline import STAGE_NAMES
from stages.planning.sources import ROOT, sources_of


def names(stage):
    return {path.relative_to(ROOT).as_posix() for path in sources_of(stage)}


def test_the_sources_of_the_drag_are_those_of_every_method_and_no_other_stage_has_them():
    methods = {
        "adaptivedrag/methods/optimization.py",
        "adaptivedrag/methods/alternation.py",
        "adaptivedrag/methods/warp.py",
        "adaptivedrag/latent_optimization.py",
        "adaptivedrag/alternating_optimization.py",
        "adaptivedrag/warp/relocation.py",
    }
    assert methods < names("optimize_latent")
    assert not [
        stage for stage in STAGE_NAMES if stage != "optimize_latent" and methods & names(stage)
    ]


def test_the_sources_of_a_judgment_are_those_of_every_metric():
    assert {"adaptivedrag/metrics/dift.py", "adaptivedrag/metrics/truth.py"} < names("evaluate")
