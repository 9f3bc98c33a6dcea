"""Divide the image into superpixels."""

from stages.stage import Made, Stage, Work

STAGE_VERSION = 1


def extract_superpixels(work: Work) -> Made:
    """Run SLIC on SAM 2's features; image -> parts `labels` and `centroids`, feature grid."""
    from adaptivedrag import superpixels

    image, size = work.working_image(), work.frame.feature_size
    config = work.config.extract_superpixels
    if config.source == "rgb":
        found = superpixels.colour_superpixels(image, size, config)
    else:
        maps = work.load_segmenter().image_features(image)
        found = superpixels.extract_superpixels(maps, size, config)
    summary = {"count": found.count, "wanted": config.count, "source": config.source}
    return Made({"labels": found.labels, "centroids": found.centroids}, summary)


STAGE = Stage(
    name="extract_superpixels",
    version=STAGE_VERSION,
    reads=("image",),
    needs=(),
    models=("segmenter",),
    run=extract_superpixels,
)
