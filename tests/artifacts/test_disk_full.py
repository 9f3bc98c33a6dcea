"""A disk that is full at any write: a clear error, nothing false, and on when there is room."""

import os
import subprocess

import numpy as np
import pytest
from support import housekeeper

from artifacts import ArtifactStore, StoreUnavailable, TensorFile
from artifacts.upkeep.verify import Verification


def payload(number):
    """About 150 kB that cannot be compressed."""
    values = np.random.default_rng(number).random((3, 60, 64))
    return {"latents": values, "lora": TensorFile({"up": values[0], "down": values[1]})}


def check_stored(store, make_action, numbers):
    """Whatever is called a hit is right; return how many there are."""
    hits = 0
    for number in numbers:
        found = store.lookup("invert_image", make_action(number).key)
        if found and found.status == "hit":
            np.testing.assert_array_equal(
                store.read(found.record)["latents"], payload(number)["latents"]
            )
            hits += 1
    return hits


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two megabytes; where mounting is not allowed there is none."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_told_in_one_line_and_work_goes_on_when_there_is_room(
    small_disk, make_action, circumstances
):
    store = ArtifactStore.open(small_disk / "store")
    ballast = small_disk / "ballast"
    failures = 0
    # Other room each time, so that it ends at another file, at its start or in its middle.
    for number, spare in enumerate(range(0, 400_000, 10_000)):
        free = os.statvfs(small_disk)
        ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - spare)))
        try:
            store.publish(make_action(number), payload(number), circumstances)
        except StoreUnavailable as error:
            failures += 1
            told = str(error)
            assert "No space left on device" in told
            assert "\n" not in told
            assert store.lookup("invert_image", make_action(number).key) is None
        ballast.unlink()
        store.publish(make_action(number), payload(number), circumstances)
        assert check_stored(store, make_action, [number]) == 1
        assert [f for f in Verification(store) if f.trouble.is_damage] == []
        record = store.lookup("invert_image", make_action(number).key).record
        folder = f"objects/{record.object[:2]}/{record.object}"
        store.backend.delete(f"{folder}/{path}" for path in record.files)
    assert failures > 10


@pytest.mark.parametrize("limit", [0, 100, 400, 700, 1000, 20_000, 60_000, 80_000])
def test_a_quota_is_told_in_one_line_whichever_file_it_falls_on(
    tmp_path, start, make_action, circumstances, limit
):
    store = ArtifactStore.open(tmp_path)
    _, channel = start(housekeeper.publish_within, tmp_path, limit, make_action(), payload(0))
    told = channel.recv()
    assert "File too large" in told
    assert "\n" not in told
    assert store.lookup("invert_image", make_action().key) is None
    store.publish(make_action(), payload(0), circumstances)
    assert check_stored(store, make_action, [0]) == 1
    assert [f for f in Verification(store) if f.trouble.is_damage] == []
