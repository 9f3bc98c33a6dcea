"""What an edit takes of a device's memory, by calculation from headers."""

import re
from pathlib import Path

import pytest

from adaptivedrag.config import EditConfig
from adaptivedrag.model.architectures.sd1 import STABLE_DIFFUSION_1
from adaptivedrag.model.architectures.sdxl import STABLE_DIFFUSION_XL
from adaptivedrag.model.diffusion import DiffusionModel
from stages.pipeline import BY_NAME
from stages.planning.memory import MOST_TOGETHER, most_together, peak_of, weights_of
from stages.planning.models import diffusion_files
from stages.planning.resolved import Setting

PAGE = Path(__file__).parents[3] / "docs" / "memory.md"


def test_weights_are_counted_by_the_headers_of_files(tiny_model_directory):
    model = DiffusionModel.load(tiny_model_directory)
    loaded = sum(
        value.numel()
        for part in (model.unet, model.vae, *model.prompts.modules)
        for value in part.parameters()
    )
    assert sum(weights_of(diffusion_files(str(tiny_model_directory))).values()) == loaded


@pytest.mark.parametrize(
    ("table", "family"), [(0, STABLE_DIFFUSION_1), (1, STABLE_DIFFUSION_XL)], ids=["1.5", "XL"]
)
def test_the_figure_of_an_architecture_is_that_of_the_page(table, family):
    """A step of training on four items of the family's own size, in 16 bits."""
    found = re.findall(r"\| train_lora, batch 4 .*\| ([\d,]+) \| [\d.]+ \|", PAGE.read_text())
    measured = int(found[table].replace(",", ""))
    _, side, _ = family.reference_latents
    told = 4 * side**2 * 320 * family.kept_by_a_pass * 2 / 2**20
    assert told == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize(
    ("family", "dtype", "wider"), [("sdxl", "float16", True), ("sdxl", "bfloat16", False),
                                   ("sd1", "float16", False)]
)  # fmt: skip
def test_a_vae_that_is_too_wide_for_float16_is_counted_in_float32(
    family_directory, family, dtype, wider
):
    model = str(family_directory(family))
    weights = weights_of(diffusion_files(model))

    def held(of):
        settings = Setting.of(EditConfig().merged({"dtype": of}), model, None, "pocket", 64, 64)
        peak = peak_of(settings, trains=False)
        return peak.usual

    whole, half = held("float32"), held(dtype)
    segmenter = 2 * half - whole
    files = Setting.of(EditConfig(), model, None, "pocket", 64, 64).segmenter
    expected = sum(file.stat().st_size for file in files.files) if files else 0
    assert segmenter - expected == pytest.approx(4 * weights["vae"] if wider else 0, abs=2)


def test_more_pixels_items_and_digits_take_more(tiny_model_directory):
    def peak(side=512, trains=True, **settings):
        config = EditConfig().merged(settings)
        model = str(tiny_model_directory)
        return peak_of(Setting.of(config, model, None, "pocket", side, side), trains=trains)

    assert peak(side=256).usual < peak().usual
    assert peak(trains=False).usual < peak().usual
    assert peak(trains=False).least == peak().least < peak().usual
    warp = {"optimize_latent": {"method": "warp"}}
    assert peak(trains=False, **warp).least < peak(**warp).least == peak().least
    assert peak(train_lora={"batch_size": 8}).usual > peak().usual
    assert peak(dtype="float32").least > peak(dtype="bfloat16").least


def test_as_many_edits_go_together_as_fit_beside_the_models(tiny_model_directory):
    setting = Setting.of(EditConfig(), str(tiny_model_directory), None, "pocket", 512, 512)
    one, four = (peak_of(setting, trains=trains).usual for trains in (False, True))
    item = (four - one) / (4 - 1.25)
    beside = 2**30 + one - (1.25 - 0.4) * item  # weights, decoding, and what is not counted
    for stage in (BY_NAME["invert_image"], BY_NAME["sample_image"], BY_NAME["optimize_latent"]):
        each = stage.memory_of_item * item
        sizes = [most_together(stage, setting, beside + n * each + 9) for n in (-9, 0, 1, 3, 8, 99)]
        assert sizes == [1, 1, 1, 3, 8, MOST_TOGETHER], stage.name
