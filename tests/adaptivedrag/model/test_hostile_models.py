"""Model files of strangers: nothing in them is run, and what is wrong is said in one line."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from support.tiny_models import shared_model

from adaptivedrag.errors import AdaptiveDragError, InvalidEdit
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.model.lora import lora_applied
from adaptivedrag.segmenter.kinds import load_segmenter


class Calling:
    """Pickles as a call that makes a file in the working folder."""

    def __reduce__(self):
        return os.system, ("touch hacked",)


@pytest.fixture(autouse=True)
def _nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "hacked").exists()


@pytest.fixture
def directory(tiny_model_directory, tmp_path):
    return shutil.copytree(tiny_model_directory, tmp_path / "model")


def refusal(call, *arguments):
    with pytest.raises(AdaptiveDragError) as refused:
        call(*arguments)
    text = str(refused.value)
    assert text.isprintable()
    assert len(text) < 700
    return text


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_a_pickle_are_not_read(directory, part):
    for path in (directory / part).glob("*.safetensors"):
        path.unlink()
    name = "pytorch_model" if part == "text_encoder" else "diffusion_pytorch_model"
    torch.save(Calling(), directory / part / f"{name}.bin")
    assert ".safetensors is missing" in refusal(DiffusionModel.load, directory)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("unet", "[]"),
        ("unet", '{"in_channels": "four"}'),
        ("unet", '{"block_out_channels": 3}'),
        ("vae", "[" * 100_000),
        ("text_encoder", '{"hidden_size": -1}'),
        ("text_encoder", ""),
        ("scheduler", "null"),
        ("scheduler", '{"a": NaN'),
        ("tokenizer", "3"),
        ("tokenizer", "\xff"),
    ],
)
def test_a_hostile_configuration_is_refused(directory, part, text):
    names = {"scheduler": "scheduler_config.json", "tokenizer": "vocab.json"}
    path = directory / part / names.get(part, "config.json")
    path.write_bytes(text.encode("latin-1"))
    assert str(directory) in refusal(DiffusionModel.load, directory)


@pytest.mark.parametrize("part", ["unet", "vae", "scheduler"])
def test_a_configuration_with_a_mark_of_byte_order_is_read(directory, part):
    (file,) = (directory / part).glob("*config.json")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    DiffusionModel.load(directory)


@pytest.mark.parametrize("length", [1e30, 0, 78, "77"])
def test_a_tokenizer_that_pads_beyond_the_text_encoder_is_refused(directory, length):
    path = directory / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": length}))
    assert "model_max_length is" in refusal(DiffusionModel.load, directory)


def test_a_tokenizer_without_a_vocabulary_is_refused(directory):
    (directory / "tokenizer" / "merges.txt").unlink()
    assert "tokenizer/merges.txt is missing" in refusal(DiffusionModel.load, directory)
    (directory / "tokenizer" / "vocab.json").unlink()
    assert "tokenizer/merges.txt is missing" in refusal(DiffusionModel.load, directory)


@pytest.mark.parametrize("words", [{}, {"<|startoftext|>": 0, "<|endoftext|>": 1}])
def test_a_tokenizer_that_knows_no_letters_is_refused(directory, words):
    (directory / "tokenizer" / "vocab.json").write_text(json.dumps(words))
    said = "tokenizer reads all prompts alike" if words else "not found in the vocabulary"
    assert said in refusal(DiffusionModel.load, directory)


@pytest.mark.parametrize(
    "change",
    [
        {"num_train_timesteps": 10**12},
        {"num_train_timesteps": "1000"},
        {"beta_start": "x"},
        {"beta_end": 5.0},
        {"beta_end": None},
        {"beta_schedule": ["linear"]},
        {"steps_offset": -1},
        {"steps_offset": 1000},
        {"steps_offset": "one"},
    ],
)
def test_a_schedule_that_is_none_is_refused(directory, change):
    path = directory / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert f"{directory}/scheduler" in refusal(DiffusionModel.load, directory)


def checkpoint(path, value):
    torch.save(value, path)


def as_pickle(path, value):
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize("write", [checkpoint, as_pickle])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "value",
    [Calling(), {"model": Calling()}, [], 3, {"model": [1]}, {"model": {"a": 3}}, {3: 4}],
    ids=["call", "call inside", "list", "number", "list inside", "no tensor", "numbers"],
)
def test_a_segmenter_that_is_no_table_of_tensors_is_refused(tmp_path, value, write):
    path = tmp_path / "sam.pt"
    write(path, value)
    assert "cannot be read as a SAM 2 checkpoint" in refusal(load_segmenter, path)


PATCHES = "image_encoder.trunk.patch_embed.proj.weight"


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {PATCHES: torch.zeros(())},
        {PATCHES: torch.zeros(96), "image_encoder.trunk.blocks.": torch.zeros(1)},
        {PATCHES: torch.zeros(1 << 20)},
    ],
)
def test_a_segmenter_of_odd_weights_is_refused(tmp_path, weights):
    checkpoint(tmp_path / "sam.pt", weights)
    assert "SAM 2" in refusal(load_segmenter, tmp_path / "sam.pt")


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, "{}", '{"trunk_width": 1e400}'])
def test_a_pocket_segmenter_of_a_hostile_configuration_is_refused(tmp_path, text):
    (tmp_path / "sam").mkdir()
    (tmp_path / "sam" / "config.json").write_text(text)
    assert "does not describe a pocket segmenter" in refusal(load_segmenter, tmp_path / "sam")


LINEAR = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def factors(down, up, name=LINEAR, **more):
    found = {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    return found | {f"unet.{LINEAR}.{key}": value for key, value in more.items()}


ONES = np.ones((2, 16), np.float32)
ODD_FACTORS = {
    "of other ranks": (factors(ONES, np.ones((16, 3))), "no factors of one update"),
    "without a rank": (factors(np.ones((0, 16)), np.ones((16, 0))), "no factors"),
    "with one axis": (factors(np.ones(16), np.ones(16)), "no factors"),
    "with no axis": (factors(np.float32(1), np.float32(1)), "no factors"),
    "with many alphas": (factors(ONES, ONES.T, alpha=np.ones(3)), "no factors"),
    "of another model": (factors(np.ones((2, 8)), ONES.T), "is for another model"),
    "of a giant product": (
        factors(np.ones((1, 1 << 20)), np.ones((1 << 20, 1))),
        "is for another model",
    ),
    "of a convolution": (factors(ONES, ONES.T, name="conv_in"), "is for another model"),
    "of a norm": (factors(ONES, ONES.T, name="conv_norm_out"), "which this model lacks"),
    "of the whole UNet": (factors(ONES, ONES.T, name="mid_block"), "which this model lacks"),
    "of a method": (factors(ONES, ONES.T, name="forward"), "which this model lacks"),
    "of one half": ({f"unet.{LINEAR}.lora_A.weight": ONES}, "only one half"),
    "of something else": ({"__class__": ONES}, "LoRA holds '__class__'"),
}


@pytest.fixture(scope="module")
def model(tiny_model_directory):
    return DiffusionModel.load(tiny_model_directory)


@pytest.mark.parametrize(("weights", "said"), ODD_FACTORS.values(), ids=ODD_FACTORS)
def test_odd_weights_of_a_lora_are_refused_and_the_model_is_as_it_was(model, weights, said):
    before = {name: value.clone() for name, value in model.unet.state_dict().items()}
    with pytest.raises(InvalidEdit) as refused, lora_applied(model, weights):
        pass
    assert said in str(refused.value)
    assert str(refused.value).isprintable()
    assert all(torch.equal(value, before[name]) for name, value in model.unet.state_dict().items())


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 100_000, '{"latent_channels": 1e9, "block_out_channels": []}',
             '{"latent_channels": 4, "block_out_channels": 3}', '{"latent_channels": "x"}']
)  # fmt: skip
def test_a_model_whose_latents_are_not_described_is_refused_before_it_loads(tmp_path, text):
    from stages.planning.models import diffusion_files

    shutil.copytree(shared_model(), tmp_path / "model")
    (tmp_path / "model" / "vae" / "config.json").write_text(text)
    assert "vae/config.json" in refusal(diffusion_files, str(tmp_path / "model"))
