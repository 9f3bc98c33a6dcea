import io
from contextlib import suppress

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore

from artifacts import Document, Picture, TensorFile
from artifacts.errors import ArtifactCorrupt
from artifacts.payload import decode, encode
from artifacts.records import Manifest, PartInfo

DTYPES = ["bool", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"]
SHAPES = [(), (0,), (1,), (5,), (0, 4), (3, 0), (4, 3), (2, 0, 3), (51, 4, 6, 6), (1, 1, 1, 1, 2)]


def round_trip(payload):
    encoded = encode(payload)
    return decode(Manifest.from_bytes(encoded.manifest.to_bytes()), encoded.files)


def values(dtype, shape):
    return np.asarray(np.random.default_rng(0).random(shape) * 3, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_arrays_come_back_as_they_were(dtype, shape):
    array = values(dtype, shape)
    back = round_trip({"a": array, "t": TensorFile({"x": array})})
    np.testing.assert_array_equal(back["a"], array, strict=True)
    np.testing.assert_array_equal(back["t"]["x"], array, strict=True)
    assert back["a"].flags.writeable
    assert back["t"]["x"].flags.writeable


def test_arrays_keep_their_odd_values():
    array = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324])
    assert round_trip({"a": array})["a"].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "array", [np.zeros((3, 4)), np.zeros((8, 2, 2, 2), "float16"), np.zeros(())]
)
def test_zeros_are_stored_as_bytes(array):
    files = encode({"a": array}).files
    assert len([path for path in files if path.startswith("a.zarr/c")]) == 1


def test_memory_layout_does_not_matter():
    array = values("float32", (4, 6))
    forms = [array, np.asfortranarray(array), array.astype(">f4"), np.flip(np.flip(array, 0), 0)]
    assert len({encode({"a": form}).object for form in forms}) == 1


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3), (4, 5, 4), (1, 1)])
def test_pictures_come_back_as_they_were(shape):
    pixels = values("uint8", shape)
    np.testing.assert_array_equal(round_trip({"p": Picture(pixels)})["p"], pixels, strict=True)


def test_documents_come_back_as_they_were():
    value = {"a": [1, 1.0, True, None, "é\n", {}], "b": 1e300, "c": -0.0}
    assert repr(round_trip({"d": Document(value)})["d"]) == repr(value)


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"a": np.zeros(3, "complex64")}, TypeError),
        ({"a": np.array(["x"])}, TypeError),
        ({"a": np.array([None])}, TypeError),
        ({"a": np.zeros(3, [("x", "i4")])}, TypeError),
        ({"a": [1, 2]}, TypeError),
        ({"a": TensorFile({"x": [1]})}, TypeError),
        ({"a": TensorFile({}, {"x": "1", "y": "2"})}, ValueError),
        ({"a": Picture(np.zeros((3, 3)))}, TypeError),
        ({"a": Picture(np.zeros((3, 3, 2), "uint8"))}, TypeError),
        ({"a": Picture(np.zeros((0, 3), "uint8"))}, TypeError),
        ({"a": Document(float("nan"))}, ValueError),
        ({"../a": np.zeros(3)}, ValueError),
        ({"A": np.zeros(3)}, ValueError),
        ({"": np.zeros(3)}, ValueError),
        ({"manifest": Document(1)}, ValueError),
    ],
)
def test_what_is_not_stored_is_refused(payload, error):
    with pytest.raises(error):
        encode(payload)


def test_the_same_payload_has_the_same_bytes(make_payload):
    one, other = encode(make_payload()), encode(dict(reversed(make_payload().items())))
    assert (one.files, one.object) == (other.files, other.object)


def test_the_logical_digest_is_the_same_for_ever(make_payload):
    assert (
        encode(make_payload()).manifest.logical
        == "5786f79f4b1d938ca99343285a8228c1f6ec1f288aa977c73a174a25365a537c"
    )


def test_the_logical_digest_names_values_not_stored_bytes(monkeypatch):
    array = values("float32", (8, 4, 16, 16))
    before = encode({"a": array})
    create = zarr.create_array

    def otherwise(*args, **options):
        options |= {"chunks": (2, 2, 8, 8), "compressors": [Crc32cCodec()]}
        return create(*args, **options)

    monkeypatch.setattr(zarr, "create_array", otherwise)
    after = encode({"a": array})
    assert after.object != before.object
    assert after.manifest.logical == before.manifest.logical


def test_the_logical_digest_tells_payloads_apart():
    array, pixels = np.zeros((2, 3)), np.zeros((2, 3), "uint8")
    payloads = [
        {},
        {"a": array},
        {"b": array},
        {"a": array.reshape(3, 2)},
        {"a": array.astype("int64")},
        {"a": array + 1},
        {"a": pixels},
        {"a": Picture(pixels)},
        {"a": array, "b": array},
        {"a": TensorFile({"x": array})},
        {"a": TensorFile({"y": array})},
        {"a": TensorFile({"x": array}, {"note": "1"})},
        {"a": TensorFile({"x": array, "y": array})},
        {"a": Document(1)},
        {"a": Document(1.0)},
        {"a": Document([])},
    ]
    assert len({encode(payload).manifest.logical for payload in payloads}) == len(payloads)


def test_other_programs_can_read_the_files(tmp_path, make_payload):
    payload = make_payload()
    files = encode(payload).files
    for path, data in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    opened = zarr.open_array(LocalStore(tmp_path / "latents.zarr"), mode="r")
    np.testing.assert_array_equal(opened[...], payload["latents"])
    np.testing.assert_array_equal(load(files["lora.safetensors"])["down"], np.zeros(3))
    picture = Image.open(io.BytesIO(files["preview.png"]))
    np.testing.assert_array_equal(np.asarray(picture), payload["preview"].pixels)


def test_a_picture_that_unfolds_to_another_size_is_refused_undecoded():
    encoded = encode({"p": Picture(np.zeros((2000, 2000), "uint8"))})
    info = PartInfo(kind="picture", dtype="uint8", shape=(2, 2))
    manifest = encoded.manifest.model_copy(update={"parts": {"p": info}})
    with pytest.raises(ArtifactCorrupt, match=r"p\.png cannot be decoded"):
        decode(manifest, encoded.files)


def test_an_array_of_another_shape_than_the_manifest_says_is_refused():
    encoded = encode({"a": np.zeros((4, 4))})
    info = PartInfo(kind="array", dtype="float64", shape=(2, 2))
    manifest = encoded.manifest.model_copy(update={"parts": {"a": info}})
    with pytest.raises(ArtifactCorrupt, match=r"a\.zarr cannot be decoded"):
        decode(manifest, encoded.files)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400), which=st.integers(0, 5))
def test_bytes_of_any_kind_are_decoded_or_refused(make_payload, data, which):
    encoded = encode(make_payload())
    path = sorted(encoded.files)[which]
    with suppress(ArtifactCorrupt):
        decode(encoded.manifest, {**encoded.files, path: data})


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_no_manifest(data):
    with pytest.raises(ValueError, match="checksum"):
        Manifest.from_bytes(data)
