"""What variants share, before anything is made."""

from support.finished_job import write_job

from artifacts import ArtifactStore
from stages.jobs.reader import load_job
from stages.planning.plan import plan_job
from stages.reports.plan_tables import variant_lines

VARIANTS = """
[[variants]]
name = "longer"
optimize_latent = { max_steps = 90 }

[[variants]]
name = "no-lora"
lora = "off"

[[variants]]
name = "seeing"
locate_handles = { draws = 2 }
"""


def test_a_plan_says_what_each_variant_shares_with_the_job_as_it_is(tmp_path):
    job = load_job(write_job(tmp_path / "job", toml=VARIANTS))
    plan = plan_job(job, ArtifactStore.open(tmp_path / "store"))
    longer, without, seeing = variant_lines(plan)
    assert longer == (
        "longer (2 edits) shares train_lora, invert_image, extract_superpixels, build_mask; "
        "its own: optimize_latent, sample_image, locate_handles"
    )
    assert without == (
        "no-lora (2 edits) shares extract_superpixels, build_mask; "
        "its own: invert_image, optimize_latent, sample_image, locate_handles"
    )
    assert seeing.endswith("sample_image; its own: locate_handles")
