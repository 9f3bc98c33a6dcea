"""Evaluation for real: rendered scenes, tiny model, real store."""

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from rich.console import Console
from support.quick_segmenter import write_quick_segmenter

from adaptivedrag.config import Runtime
from adaptivedrag.presets import preset
from artifacts import ArtifactStore, Circumstances, Picture
from flows.evaluation import judging
from flows.evaluation.ablation import ablation_rows, evaluate_ablation, write_row_job
from flows.evaluation.judging import evaluate_job
from flows.outcomes import InvalidRequest
from stages.evaluate import CONTROLS, PASTE, pasted
from stages.jobs.importers import import_dragscenes
from stages.jobs.reader import load_job
from stages.pipeline import STAGE_NAMES
from stages.planning.plan import plan_edits
from stages.workbench import Workbench

SCENES = ((0, 0), (0, 1), (5, 1))
SETTINGS = """
model = {model}
segmenter = {segmenter}
preset = "paper"

[train_lora]
steps = 1
batch_size = 1

[invert_image]
num_steps = 4
inverted_steps = 2

[extract_superpixels]
source = "rgb"

[optimize_latent]
steps = 2
max_steps = 3
"""
CIRCUMSTANCES = Circumstances(code="1", started="2024-01-01T00:00:00+00:00", seconds=1.0)


@pytest.fixture(scope="module")
def dataset(tiny_model_directory, tmp_path_factory) -> Path:
    """Three drags on two scenes, as a job with the tiny model."""
    folder = tmp_path_factory.mktemp("scenes") / "scenes"
    import_dragscenes(folder, SCENES, size=64)
    with (folder / "job.toml").open("a") as file:
        segmenter = write_quick_segmenter(folder.with_name("segmenter"))
        names = {"model": tiny_model_directory, "segmenter": segmenter}
        file.write(SETTINGS.format(**{name: json.dumps(str(path)) for name, path in names.items()}))
    return folder


@pytest.fixture(scope="module")
def finished(dataset) -> Path:
    """The dataset with all results in `store` beside the job."""
    bench = Workbench(ArtifactStore.open(dataset / "store"), Runtime(threads=1))
    for edit in load_job(dataset / "job.toml").edits:
        for stage in STAGE_NAMES:
            bench.perform(stage, edit)
    return dataset


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """The finished dataset, to be spoiled."""
    return shutil.copytree(finished, tmp_path / "scenes")


def evaluate(folder: Path, **options):
    job = load_job(folder / "job.toml")
    defaults = {
        "store_location": folder / "store",
        "out": folder / "evaluation",
        "dift": job.edits[0].model,
        "console": Console(quiet=True),
    }
    return evaluate_job(job, **defaults | options)


def rows_of(evaluated) -> dict:
    return {row.name: row for row in evaluated.evaluation.rows}


def records_made(folder: Path) -> int:
    return len(list((folder / "store").glob("actions/*/*/*/*.json")))


@pytest.fixture(scope="module")
def evaluated(finished):
    return evaluate(finished)


def test_a_finished_job_is_measured_beside_all_controls(evaluated):
    rows = rows_of(evaluated)
    assert tuple(rows) == ("scenes", *CONTROLS)
    assert evaluated.exit_code == 0
    for row in rows.values():
        assert row.counts["edits"] == 3
        assert row.counts["images"] == 2
        assert row.missing == ()
    measured = {f"{name}_distance" for name in ("tracked", "witness", "true", "matched")}
    assert measured <= rows["scenes"].means.keys()
    assert "tracked_distance" not in rows["erase"].means
    assert rows["scenes"].seeds == (0,)
    pictures = evaluated.report.parent / "pictures"
    assert [path.name for path in pictures.iterdir()] == ["scenes.png"]


def test_doing_nothing_is_exact(evaluated, finished):
    row = rows_of(evaluated)["do nothing"]
    lengths = [
        math.dist(*drag) for edit in load_job(finished / "job.toml").edits for drag in edit.drags
    ]
    assert row.means["arrival_recovery"].mean == 0
    assert row.means["departure_recovery"].mean == 0
    assert row.means["matched_distance"].mean == pytest.approx(mean(lengths))
    assert row.means["witness_distance"].mean == pytest.approx(mean(lengths))
    assert row.means["preservation"].mean == 99


def test_erasing_leaves_nothing_where_the_part_was(evaluated):
    erased = rows_of(evaluated)["erase"]
    assert erased.means["departure_recovery"].mean > 0.7  # the shadow stays
    assert erased.means["true_arrived"].mean == 0
    assert erased.means["content_found"].mean == 0


def test_a_job_whose_segmenter_is_not_there_is_told_in_one_line_that_nothing_is_pasted(copied):
    job = copied / "job.toml"
    text = job.read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("segmenter"))
    job.write_text(text.replace(line, 'segmenter = "none.pt"'))
    evaluated = evaluate(copied)
    assert evaluated.exit_code == 0
    assert tuple(rows_of(evaluated)) == ("scenes", *(name for name in CONTROLS if name != PASTE))
    (said,) = (line for line in evaluated.evaluation.unavailable if line.startswith("paste: "))
    assert "none.pt" in said
    assert f"- {said}" in evaluated.report.read_text()


def test_pasting_is_what_the_preset_makes_of_the_edits(evaluated, finished):
    usual = preset("paste").model_dump(include={"invert_image", "extract_superpixels"})
    job = write_row_job(finished, "pasted", {"preset": "paste", **usual})
    plans = plan_edits(load_job(job).edits, ArtifactStore.open(finished / "store"))
    assert all(plan.done for plan in plans)
    means = rows_of(evaluated)["paste"].means
    assert "tracked_distance" not in means
    assert means["arrival_recovery"].mean > 0 < means["preservation"].mean < 99


def test_content_that_cannot_be_pasted_is_named_and_no_fault_of_the_job(copied, monkeypatch):
    def of_another_image(edit):
        return replace(pasted(edit), image=replace(edit.image, digest="0" * 64))

    monkeypatch.setattr(judging, "pasted", of_another_image)
    evaluated = evaluate(copied)
    missing = rows_of(evaluated)["paste"].missing
    assert {gone.kind for gone in missing} == {"no content"}
    assert "changed after it was planned" in missing[0].reason
    assert (len(missing), evaluated.exit_code) == (3, 0)


def test_reconstructing_is_made_once_per_image(evaluated, finished):
    sampled = len(list((finished / "store" / "actions" / "sample_image").glob("*/*/*.json")))
    assert sampled == 2 * len(SCENES) + 2  # and each edit is pasted
    assert rows_of(evaluated)["reconstruct only"].means["preservation"].mean < 99


def test_a_second_evaluation_reads_what_the_first_one_found(evaluated, finished):
    made = records_made(finished)
    again = evaluate(finished)
    assert records_made(finished) == made
    assert again.evaluation == evaluated.evaluation


def test_tables_name_protocols_counts_and_intervals(evaluated, finished):
    text = (finished / "evaluation" / "results.md").read_text()
    assert evaluated.report.read_text() == text
    assert "ensemble 8" in text
    assert "95% bootstrap intervals" in text
    assert "| do nothing | 2 | 3 |" in text
    assert "## Missing results\n\nNone." in text
    assert "IF needs" in text
    document = json.loads((finished / "evaluation" / "results.json").read_text())
    assert len(document["rows"]) == 7
    assert [each["second"] for each in document["comparisons"]] == list(CONTROLS)
    with (finished / "evaluation" / "rows" / "scenes.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["status"] for line in lines] == ["judged"] * 3
    assert all(line["arrival_recovery"] for line in lines)


def missing_of(folder: Path) -> dict[str, str]:
    evaluated = evaluate(folder)
    assert evaluated.exit_code == 1
    assert "None." not in evaluated.report.read_text().partition("## Protocols")[0]
    (row, *_) = evaluated.evaluation.rows
    assert row.counts["edits"] + row.counts["missing"] == len(load_job(folder / "job.toml").order)
    return {missing.id: missing.kind for missing in row.missing}


def test_a_result_that_was_never_made_is_counted_and_named(copied):
    lines = (copied / "edits.jsonl").read_text().splitlines()
    new = json.loads(lines[0])
    new["id"] = "new"
    new["drags"] = [{"handle": [20, 20], "target": [30, 25]}]
    del new["scene"]
    (copied / "edits.jsonl").write_text("\n".join([*lines, json.dumps(new)]) + "\n")
    assert missing_of(copied) == {"new": "not made"}


def test_a_result_of_other_settings_is_counted_and_named(copied):
    path = copied / "job.toml"
    path.write_text(path.read_text().replace("max_steps = 3", "max_steps = 2"))
    assert set(missing_of(copied).values()) == {"other settings"}


def test_a_bad_edit_is_counted_and_named(copied):
    with (copied / "edits.jsonl").open("a") as file:
        file.write('{"id": "worse", "image": "none.png", "drags": []}\n')
    assert missing_of(copied) == {"worse": "cannot be done"}


def result_of(folder: Path, place: int = 0):
    edit = load_job(folder / "job.toml").edits[place]
    (plan,) = plan_edits([edit], ArtifactStore.open(folder / "store"))
    return edit, plan.stages["sample_image"].record


def test_a_result_of_another_size_is_counted_and_named(copied):
    edit, record = result_of(copied)
    store = ArtifactStore.open(copied / "store")
    small = {"image": Picture(np.zeros((32, 32, 3), np.uint8))}
    store.publish(record.action, small, CIRCUMSTANCES, replace=True)
    assert missing_of(copied) == {edit.id: "other size"}


def test_a_damaged_result_is_counted_and_named(copied):
    shutil.rmtree(copied / "store" / "actions" / "evaluate", ignore_errors=True)
    edit, record = result_of(copied)
    (picture,) = (copied / "store").glob(f"objects/*/{record.object}/image.png")
    data = bytearray(picture.read_bytes())
    data[-20] ^= 1
    picture.write_bytes(data)
    assert missing_of(copied) == {edit.id: "damaged"}


def test_two_jobs_are_compared_pair_by_pair(copied, run_here):
    other = copied / "other.toml"
    text = (copied / "job.toml").read_text()
    other.write_text(text.replace("[optimize_latent]", "[optimize_latent]\nlearning_rate = 0.5"))
    run_here(other, out=str(copied / "other"))
    evaluated = evaluate(copied, against=load_job(other))
    assert evaluated.exit_code == 0
    assert tuple(rows_of(evaluated)) == ("scenes", "other", *CONTROLS)
    first, *_ = evaluated.evaluation.comparisons
    assert (first.first, first.second, first.edits) == ("scenes", "other", 3)
    rows = rows_of(evaluated)
    difference = first.differences["preservation"].mean
    means = [rows[name].means["preservation"].mean for name in ("scenes", "other")]
    assert difference == pytest.approx(means[0] - means[1])
    assert difference != 0


def test_jobs_of_one_name_cannot_be_compared(finished):
    with pytest.raises(InvalidRequest, match="Two of scenes, scenes have one name"):
        evaluate(finished, against=load_job(finished / "job.toml"))


def test_a_job_that_is_called_like_a_control_is_refused(finished):
    path = write_row_job(finished, PASTE, {})
    with pytest.raises(InvalidRequest, match="A job is called 'paste', as a control is"):
        evaluate(finished, against=load_job(path))
    path.unlink()


def ablate(folder: Path, *only: str):
    return evaluate_ablation(
        folder,
        preset="paper",
        only=only,
        store_location=folder / "store",
        out=folder / "ablation",
        dift=load_job(folder / "job.toml").edits[0].model,
        console=Console(quiet=True),
    )


@pytest.mark.slow
def test_an_ablation_runs_what_is_missing_once(copied):
    rows = ("dragdiffusion-80", "paper", "paper-no-lora")
    # The tiny model's budget holds for every row of this test.
    ablated = ablate(copied, *rows)
    assert ablated.exit_code == 0
    assert tuple(rows_of(ablated)) == (*rows, *CONTROLS)
    assert ablated.evaluation.reference == "paper"
    for row in rows:
        assert (copied / "ablation" / "rows" / f"{row}.csv").is_file()
        assert load_job(copied / f"{row}.toml").name == row
    assert {edit.lora for edit in load_job(copied / "paper-no-lora.toml").edits} == {"off"}
    made = records_made(copied)
    assert ablate(copied, *rows).evaluation == ablated.evaluation
    assert records_made(copied) == made


def test_a_row_that_cannot_be_had_is_counted_and_the_others_go_on(copied):
    lines = [json.loads(line) for line in (copied / "edits.jsonl").read_text().splitlines()]
    for line in lines:
        del line["mask"]
    (copied / "edits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ablated = ablate(copied, "dragdiffusion-80", "paper")
    rows = rows_of(ablated)
    assert ablated.exit_code == 1
    assert [missing.kind for missing in rows["dragdiffusion-80"].missing] == ["cannot be done"] * 3
    assert rows["paper"].counts["edits"] == 3


def test_the_job_of_a_row_can_name_files_beyond_the_first_plane(dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "scenes")
    job = tmp_path / "scenes" / "job.toml"
    (tmp_path / "scenes" / "edits.jsonl").rename(tmp_path / "scenes" / "🌸.jsonl")
    job.write_text(job.read_text("utf-8").replace("edits.jsonl", "🌸.jsonl"), "utf-8")
    path = write_row_job(tmp_path / "scenes", "paper", {"preset": "paper"})
    assert len(load_job(path).edits) == len(load_job(job).edits)


def test_a_row_that_is_unknown_starts_nothing(finished):
    with pytest.raises(InvalidRequest, match="no row 'papr'"):
        ablate(finished, "papr")


def test_only_modules_that_a_preset_has_are_switched_off():
    plus, paper = set(ablation_rows("plus")), set(ablation_rows("paper"))
    of_plus = ("no-relocation", "no-content-mask", "no-composite", "no-kept-texture", "one-round")
    assert {f"plus-{name}" for name in (*of_plus, "smooth-holes", "no-reference-control")} <= plus
    assert "paper-no-backtracking" in paper
    # A LoRA is trained only for `paper`, so that each may have what it has not.
    assert {"plus-lora", "paper-no-lora"} <= plus | paper
    assert not {"plus-no-lora", "paper-lora"} & (plus | paper)
    assert not {"paste-lora", "paste-no-lora"} & {*ablation_rows("paste")}  # it has no model
    # `plus` optimizes nothing.
    idle = ("no-backtracking", "no-background-loss", "no-line-extension", "no-correspondence")
    assert not plus & {f"plus-{name}" for name in idle}
    alternating = {"no-first-patch", "no-alternation", "renoising", "no-regions-in-supervision"}
    assert {f"alternating-{name}" for name in alternating} <= {*ablation_rows("alternating")}
    assert not paper & {f"paper-{name}" for name in ("no-first-patch", "renoising")}
    # Nor has a baseline what acts only beside what it lacks.
    for name in ("released", "dragdiffusion"):
        rows = ablation_rows(name)
        assert f"{name}-no-background-loss" in rows
        assert not {f"{name}-{idle}" for idle in ("no-line-extension", "no-overshoot-returns")} & {
            *rows
        }
    assert not paper & {
        f"paper-{name}"
        for name in ("no-relocation", "no-kept-texture", "smooth-holes", "one-round")
    }


@pytest.mark.parametrize("name", ablation_rows("plus"))
def test_every_row_of_the_ablation_is_a_job(dataset, name, tmp_path):
    folder = shutil.copytree(dataset, tmp_path / "scenes", ignore=shutil.ignore_patterns("store"))
    (folder / "job.toml").write_text('mask_root = "."\nuse_mask = false\npreset = "plus"\n')
    changes = ablation_rows("plus")[name]
    job = load_job(write_row_job(folder, name, changes))
    assert not job.bad
    (plain,) = {edit.config for edit in load_job(folder / "job.toml").edits}
    (own,) = {edit.config for edit in job.edits}
    assert (own != plain) or name == "plus" or job.edits[0].lora == "train"
