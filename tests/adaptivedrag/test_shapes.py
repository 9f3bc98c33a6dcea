"""While tests run, every call of the method is held to the shapes in its annotations."""

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from adaptivedrag.features import sample_features
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.superpixels import Superpixels, segments_on_grid


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: sample_features(torch.zeros(4, 4), torch.zeros(2, 2)), "features"),
        (lambda: sample_features(torch.zeros(3, 4, 4), torch.zeros(2, 3)), "points"),
        (lambda: segments_on_grid(np.zeros((2, 8, 8)), (4, 4)), "segments"),
        (lambda: Superpixels(np.zeros((4, 4))), "labels"),
        (lambda: Conditioning(torch.zeros(7, 8)), "tokens"),
    ],
    ids=["axes", "coordinates", "dtype", "floats for labels", "no batch"],
)
def test_what_does_not_fit_its_annotation_is_refused(call, named):
    with pytest.raises(TypeCheckError, match=f"parameter .{named}."):
        call()
