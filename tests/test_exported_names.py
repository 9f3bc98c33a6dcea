"""The public face of each package is what its `__all__` says."""

import pytest

import adaptivedrag
import artifacts
import stages


@pytest.mark.parametrize(
    "package", [adaptivedrag, artifacts, stages], ids=lambda package: package.__name__
)
def test_every_exported_name_is_there_sorted_and_documented(package):
    assert sorted(package.__all__) == sorted(set(package.__all__))
    for name in package.__all__:
        assert getattr(package, name).__doc__ or name.isupper(), name
