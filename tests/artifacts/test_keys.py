import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts import (
    Action,
    canonical_json,
    digest_bytes,
    digest_file,
    digest_json,
    digest_pixels,
    readable_json,
)
from artifacts.keys import FLOAT_TAG

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda name: name != FLOAT_TAG)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
IMAGE = digest_bytes("test", b"image")
UNET = digest_bytes("test", b"unet")

# Pinned: a change here makes every store in the world forget everything.
GOLDEN = [
    (
        Action("invert_image", 1, {}, {}, {}),
        "d043614061bc867a915fc3eddef31529b6b1db1a9da4beebfa78840c0816e45e",
    ),
    (
        Action("invert_image", 2, {}, {}, {}),
        "62b27b3e413371b5467ebc338720792a9a9f543d3df6588899c06e705e2e26d7",
    ),
    (
        Action("train_lora", 1, {"rank": 16, "rate": 5e-4}, {"image": IMAGE}, {"unet": UNET}),
        "220e88466e27191c4df2f8bc90bf9271901990ee62419219a3608500b2997266",
    ),
    (
        Action("x", 1, {"a": [1, 1.0, True, None, "é", {"b": -0.0}]}, {"in": IMAGE}, {}),
        "5cab7eaa4f463ad917c405a16e4937ab14a6c66adb184c6e35476fc938c817f3",
    ),
]


def pairs(value):
    """A form in which 1, 1.0, True and the two zeros differ, and the order of keys does not."""
    if isinstance(value, list | tuple):
        return ["list", *map(pairs, value)]
    if isinstance(value, dict):
        return ["dict", *sorted((key, pairs(item)) for key, item in value.items())]
    return [type(value).__name__, repr(value)]


def untagged(item):
    return float.fromhex(item[FLOAT_TAG]) if FLOAT_TAG in item else item


@pytest.mark.parametrize(("action", "key"), GOLDEN)
def test_keys_are_the_same_for_ever(action, key):
    assert action.key == key


def test_digests_are_the_same_for_ever(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    pixels = np.arange(24, dtype="uint8").reshape(2, 4, 3)
    assert (
        digest_bytes("file", b"abc")
        == digest_file(tmp_path / "file")
        == "ad6543b11d7ff5d692f601657e4189828788353f5851ec4271b154a6974b8076"
    )
    assert (
        digest_pixels(pixels) == "167e3119689a3272a6de3ce522281e34efb350fae01372574d4623d3639473fc"
    )
    assert (
        digest_json("model", {"id": "a"})
        == "23dcc1ec634b991ae5e6b89be97ae2e31c32506f87fe751d77a877a0fe44c442"
    )


def test_keys_do_not_depend_on_the_hash_seed():
    program = (
        "from artifacts import Action\n"
        "config = {name: 1.5 for name in {'a', 'b', 'c', 'd', 'e'}}\n"
        "print(Action('s', 1, config, {}, {}).key)"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(5)
    }
    assert len(keys) == 1


@given(VALUES)
def test_canonical_json_can_be_read_back_exactly(value):
    back = json.loads(canonical_json(value), object_hook=untagged)
    assert pairs(back) == pairs(value)


@given(VALUES)
def test_readable_json_can_be_read_back_exactly(value):
    assert pairs(json.loads(readable_json(value))) == pairs(value)


@given(VALUES, VALUES)
def test_canonical_json_is_equal_only_for_equal_values(one, other):
    assert (canonical_json(one) == canonical_json(other)) == (pairs(one) == pairs(other))


def test_a_key_is_the_digest_of_all_five_fields(make_action):
    action = make_action()
    fields = ("stage", "version", "config", "inputs", "models")
    assert action.key == digest_json("action", {name: getattr(action, name) for name in fields})


def test_a_name_that_has_no_canonical_form_is_refused(make_action):
    with pytest.raises(ValueError, match=r"value\.inputs has a key '\$float', which is reserved"):
        _ = make_action(inputs={FLOAT_TAG: IMAGE}).key


def test_tags_separate_kinds_of_data():
    assert digest_bytes("file", b"abc") != digest_bytes("pixels", b"abc")


def test_the_shape_of_pixels_counts():
    flat = np.zeros(24, dtype="uint8")
    assert digest_pixels(flat.reshape(2, 4, 3)) != digest_pixels(flat.reshape(4, 2, 3))


@pytest.mark.parametrize("pixels", [np.zeros((2, 2, 3)), np.zeros((2, 2), dtype="uint8")])
def test_other_arrays_are_no_pixels(pixels):
    with pytest.raises(ValueError, match="uint8 HWC"):
        digest_pixels(pixels)
