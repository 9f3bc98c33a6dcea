"""Training of the pocket models, at tiny size: a run that was killed ends as if it had not been."""

import json
import time
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from adaptivedrag.pocket_training.settings import PocketSettings
from adaptivedrag.segmenter.kinds import load_segmenter
from flows.pocket.export import export_diffusion, export_segmenter
from flows.pocket.runs import Pace, continue_run, save
from flows.pocket.train import MODELS, SETTINGS, build, read_settings, train_pocket


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tiny():
    """The shipped settings, with fewer steps and the smallest pictures."""
    values = read_settings(SETTINGS).model_dump()
    for part in values.values():
        part["schedule"] |= {"steps": 4, "batch": 2, "warmup": 1, "bf16": False}
    values["vae"] |= {"picture": 64, "crop": 32}
    values["diffusion"] |= {
        "picture": 64,
        "small_picture": 32,
        "small_batch": 2,
        "small_steps": 2,
        "widths": (8, 16, 16, 16),
        "heads": (1, 1, 1, 1),
    }
    values["diffusion"]["text"] |= {"width": 16, "layers": 1, "heads": 1}
    values["segmenter"] |= {
        "crop": 128,
        "points": 2,
        "whole_from": 9,
        "trunk_width": 8,
        "width": 32,
    }
    return PocketSettings.model_validate(values)


@pytest.mark.parametrize("name", ["diffusion", "segmenter"])
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(name, tiny, tmp_path):
    whole = build(name, tiny)
    assert continue_run(whole, tmp_path / "whole", Pace(until=None)) == 4

    killed = build(name, tiny)
    for _ in range(2):
        killed.step()
    save(killed, tmp_path / "killed")
    killed.step()  # never saved: lost with the process
    resumed = build(name, tiny)
    assert continue_run(resumed, tmp_path / "killed", Pace(until=None)) == 4

    one, other = whole.state(), resumed.state()
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=0, atol=0, msg=key)


def test_a_run_that_is_out_of_time_stops_after_a_step_and_can_go_on(tiny, tmp_path):
    run = build("vae", tiny)
    assert continue_run(run, tmp_path, Pace(until=time.monotonic(), log_every=1)) == 1
    assert continue_run(build("vae", tiny), tmp_path, Pace(until=None, log_every=1)) == 4
    lines = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]


def test_log_lines_of_lost_steps_are_dropped_on_resuming(tiny, tmp_path):
    run = build("vae", tiny)
    run.step()
    save(run, tmp_path)
    log = tmp_path / "losses.jsonl"
    log.write_text('{"step": 1}\n{"step": 2}\n')
    continue_run(build("vae", tiny), tmp_path, Pace(until=None))
    assert log.read_text() == '{"step": 1}\n'


def test_a_killed_save_leaves_the_earlier_checkpoint(tiny, tmp_path, monkeypatch):
    run = build("vae", tiny)
    save(run, tmp_path)

    def torn(_tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.pocket.runs.save_file", torn)
    with pytest.raises(KeyboardInterrupt):
        save(run, tmp_path)
    assert int(load_file(tmp_path / "checkpoint.safetensors")["steps_done"]) == 0


def test_exported_directories_load_as_any_other_model_does(tiny, tmp_path):
    parts = {name: build(name, tiny) for name in MODELS}
    export_diffusion(parts["vae"], parts["diffusion"], tmp_path / "diffusion")
    export_segmenter(parts["segmenter"], tmp_path / "segmenter")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "diffusion", safety_checker=None)
    assert pipeline.vae.config.scaling_factor == pytest.approx(parts["vae"].code.scaling)
    assert pipeline.tokenizer.model_max_length == 77
    assert next(load_segmenter(tmp_path / "segmenter").model.parameters()).dtype == torch.float32
    weights = load_file(tmp_path / "diffusion/unet/diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}


def test_the_vae_encoder_is_the_linear_code_that_the_unet_learns(tiny):
    run = build("vae", tiny)
    images = run.batch(0)
    with torch.no_grad():
        encoded = run.model.encode(images).latent_dist.mean * run.code.scaling
    torch.testing.assert_close(encoded, run.code.encode(images), rtol=0.03, atol=0.05)


def test_a_name_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no pocket model 'unet'"):
        train_pocket(tmp_path, 1.0, "unet")
