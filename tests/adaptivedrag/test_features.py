"""Reading the feature map against torch's own interpolation."""

import torch

from adaptivedrag.features import sample_features


def test_sampled_cells_equal_the_interpolated_map():
    features = torch.randn(5, 6, 9, generator=torch.Generator().manual_seed(0))
    grid = torch.nn.functional.interpolate(
        features[None], scale_factor=4, mode="bilinear", align_corners=False
    )[0]
    cells = torch.cartesian_prod(torch.arange(24), torch.arange(36))
    sampled = sample_features(features, cells.float())
    torch.testing.assert_close(sampled, grid[:, cells[:, 0], cells[:, 1]].T)


def test_beyond_the_border_the_outermost_values_go_on():
    features = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    points = torch.tensor([[-9.0, 5.0], [99.0, 99.0]])
    sampled = sample_features(features, points)
    torch.testing.assert_close(sampled[1], features[:, -1, -1])


def test_the_feature_map_is_the_third_up_block_of_an_ordinary_pass(tiny, scenario):
    with torch.no_grad():
        noise, (features,) = tiny.predict_with_features(
            scenario.latents, 681, scenario.conditioning
        )
        plain = tiny.predict_noise(scenario.latents, 681, scenario.conditioning)
    assert torch.equal(noise, plain)
    assert features.shape == (16, *scenario.frame.latent_size)
    assert not tiny.unet.up_blocks[2]._forward_hooks
