"""Checkpoints in one file: the same models, to the last bit, as the folders they were made of."""

import pytest
import torch
from support.single_files import EPSILON, original_weights, settings_of, write_single_file
from support.tiny_models import write_model

from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.model.single_file import SingleFile

FAMILIES = ("sd1", "sd2", "sd2-v", "sdxl")


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, tmp_path_factory):
    """A tiny model of a family as a folder and as a single file."""
    folder = tmp_path_factory.mktemp("single")
    family = request.param
    model = write_model(folder / "model", family)
    weights = original_weights(model, family)
    metadata = {} if family == "sd2-v" else EPSILON
    file = write_single_file(folder / "one.safetensors", weights, metadata)
    return DiffusionModel.load(model), SingleFile.open(
        file, settings_of(model, folder / "configs", family)
    )


def states(model: DiffusionModel) -> dict[str, torch.Tensor]:
    modules = (model.unet, model.vae, *model.prompts.modules)
    return {
        f"{number}.{name}": value
        for number, module in enumerate(modules)
        for name, value in module.state_dict().items()
    }


def test_a_single_file_is_the_model_that_its_folder_is(pair):
    expected, source = pair
    found = DiffusionModel.load(source)
    assert found.architecture == expected.architecture
    assert found.schedule == expected.schedule
    ours, theirs = states(found), states(expected)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    prompt = expected.encode_prompt("a hill")
    assert torch.equal(found.encode_prompt("a hill").tokens, prompt.tokens)
