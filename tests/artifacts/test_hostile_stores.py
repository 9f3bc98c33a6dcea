"""Stores of strangers: nothing is followed out of the store, and nothing fills the memory."""

import hashlib
import json
import os
import tracemalloc
from contextlib import suppress
from datetime import timedelta

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numcodecs.zstd import Zstd
from safetensors.numpy import save
from zarr.codecs import BytesCodec, GzipCodec
from zarr.storage import MemoryStore

from artifacts import ArtifactCorrupt, ArtifactStore, StoreUnavailable
from artifacts.payload import check, decode, encode, object_id
from artifacts.records import Manifest, PartInfo, Record, StoredFile, seal
from artifacts.upkeep.collect import Policy, collect, plan_collection
from artifacts.upkeep.verify import Verification


@pytest.fixture
def published(folder_store, make_action, make_payload, circumstances):
    return folder_store.publish(make_action(), make_payload(), circumstances)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "precious.json").write_text("precious")
    return folder


def object_folder(root, record):
    return root / "objects" / record.object[:2] / record.object


def record_folder(root, record):
    return root / "actions" / record.stage / record.key[:2] / record.key


def files_below(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_links_and_pipes_in_a_store_are_nothing(folder_store, published, root, outside):
    backend = folder_store.backend
    before = {entry.path for entry in backend.entries("")}
    (root / "objects" / "zz").symlink_to(outside)
    (root / "objects" / "whole").symlink_to("/")
    (root / "objects" / "loop").symlink_to(root)
    (root / "objects" / "device").symlink_to("/dev/zero")
    (root / "objects" / "file.json").symlink_to(outside / "precious.json")
    os.mkfifo(root / "objects" / "pipe")
    assert {entry.path for entry in backend.entries("")} == before
    assert backend.folders("objects") == [published.object[:2]]
    for name in ("zz/precious.json", "device", "file.json", "pipe"):
        assert backend.get(f"objects/{name}") is None
    backend.delete(["objects/zz/precious.json"])
    with pytest.raises(StoreUnavailable, match=r"zz is a link, which may lead out"):
        backend.put("objects/zz/new.json", b"new")
    with pytest.raises(StoreUnavailable, match=r"zz is a link, which may lead out"):
        backend.create("objects/zz/new.json", b"new")
    assert files_below(outside) == {outside / "precious.json": b"precious"}


@pytest.mark.parametrize("part", ["", "latents.zarr"])
def test_an_object_that_is_a_link_is_made_again_and_its_target_kept(
    folder_store, published, root, outside, make_payload, circumstances, check_payload, part
):
    folder = object_folder(root, published) / part
    (folder).rename(outside / "moved")
    folder.symlink_to(outside / "moved")
    before = files_below(outside)
    assert folder_store.lookup(published.stage, published.key).status == "known"
    with pytest.raises(ArtifactCorrupt, match="is missing"):
        folder_store.read(published)
    with pytest.raises(StoreUnavailable, match="is a link"):
        folder_store.publish(published.action, make_payload(), circumstances)
    list(Verification(folder_store))
    plan_collection(folder_store, Policy(keep=frozenset()))
    assert files_below(outside) == before
    folder.unlink()
    again = folder_store.publish(published.action, make_payload(), circumstances)
    check_payload(folder_store.read(again), make_payload())


def test_a_file_that_is_a_link_is_replaced_by_a_file(
    folder_store, published, root, outside, make_payload, circumstances, check_payload
):
    path = object_folder(root, published) / "verdict.json"
    path.rename(outside / "verdict.json")
    path.symlink_to(outside / "verdict.json")
    before = files_below(outside)
    again = folder_store.publish(published.action, make_payload(), circumstances)
    check_payload(folder_store.read(again), make_payload())
    assert path.is_file()
    assert not path.is_symlink()
    assert files_below(outside) == before


def test_a_collector_deletes_nothing_through_a_link(folder_store, published, root, outside):
    name = "ab" + "0" * 62
    (outside / name).mkdir()
    (outside / name / "manifest.json").write_text("{}")
    (root / "objects" / "ab").symlink_to(outside)
    before = files_below(outside)
    removed = collect(folder_store, Policy(keep=()), timedelta(seconds=-1)).removed
    assert [candidate.path for candidate in removed] == [
        f"objects/{published.object[:2]}/{published.object}"
    ]
    assert files_below(outside) == before


OUTSIDE = [
    "../x",
    "/etc/passwd",
    "a/../../x",
    "a//b",
    ".hidden",
    "a\\..\\x",
    "C:\\x",
    "a\0b",
    "a\n",
]


@pytest.mark.parametrize("path", [*OUTSIDE, "", "x" * 201])
def test_a_path_out_of_an_object_makes_neither_manifest_nor_record(
    published, path, folder_store, root
):
    manifest = Manifest.from_bytes((object_folder(root, published) / "manifest.json").read_bytes())
    files = [{"path": path, "size": 1, "sha256": "0" * 64}]
    with pytest.raises(ValueError, match="path"):
        Manifest.from_bytes(seal({**manifest.model_dump(mode="json"), "files": files}))
    told = {**published.model_dump(mode="json"), "files": {path: 1}, "number": 2}
    with pytest.raises(ValueError, match="files"):
        Record.from_bytes(seal(told))
    (record_folder(root, published) / "0002.json").write_bytes(seal(told))
    assert folder_store.lookup(published.stage, published.key).record == published


@pytest.mark.parametrize("digest", ["../../outside", "0" * 63, "0" * 64 + "\n", "G" * 64, "/etc"])
@pytest.mark.parametrize("name", ["object", "logical", "key"])
def test_a_digest_that_is_a_path_makes_no_record(published, name, digest):
    with pytest.raises(ValueError, match=name):
        Record.from_bytes(seal({**published.model_dump(mode="json"), name: digest}))


def test_a_manifest_of_a_million_files_is_not_read(folder_store, published, root):
    entry = b'{"path":"a","sha256":"%s","size":1}' % (b"0" * 64)
    path = object_folder(root, published) / "manifest.json"
    path.write_bytes(b"[" + b",".join([entry] * 1_000_000) + b"]")
    tracemalloc.start()
    with pytest.raises(ArtifactCorrupt, match=r"a store holds at most 4194304"):
        folder_store.read(published)
    found = [str(finding) for finding in Verification(folder_store)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert any("at most 4194304" in finding for finding in found)
    assert peak < 10 << 20


def test_a_manifest_of_too_many_files_is_refused():
    files = [{"path": f"f{n}", "size": 1, "sha256": "0" * 64} for n in range(10_001)]
    with pytest.raises(ValueError, match="10000"):
        Manifest.from_bytes(seal({"files": files, "parts": {}, "logical": "0" * 64}))


def test_an_enormous_record_is_passed_over_unread(
    folder_store, published, root, make_payload, circumstances
):
    path = record_folder(root, published) / "0002.json"
    with path.open("wb") as file:
        file.truncate(20 << 30)
    assert folder_store.lookup(published.stage, published.key).record == published
    later = folder_store.publish(published.action, make_payload(), circumstances, replace=True)
    assert later.number == 3
    assert any("0002.json" in str(finding) for finding in Verification(folder_store))


@pytest.mark.parametrize("number", ["0002", "999999999"])
def test_a_record_that_is_a_pipe_is_passed_over(folder_store, published, root, number):
    os.mkfifo(record_folder(root, published) / f"{number}.json")
    assert folder_store.lookup(published.stage, published.key).record == published


@pytest.mark.parametrize("kind", ["pipe", "link", "enormous"])
def test_a_store_whose_format_cannot_be_read_is_refused(root, folder_store, kind):
    path = root / "format.json"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(20 << 30)
    for create in (False, True):
        with pytest.raises((StoreUnavailable, ArtifactCorrupt)) as refusal:
            ArtifactStore.open(root, create)
        assert "\n" not in str(refusal.value)


def test_attempts_of_another_form_are_passed_over(folder_store, published):
    folder_store.add_attempt(published.stage, published.key, {"reason": "good"})
    for number, body in enumerate((b"[1]", b"3", b"[" * 100_000, b'{"a":'), start=2):
        path = f"attempts/{published.stage}/{published.key}/{number:04d}.json"
        folder_store.backend.put(path, seal_raw(body))
    assert folder_store.attempts(published.stage, published.key) == [{"reason": "good"}]


@pytest.mark.parametrize("body", [b"[1]", b"3", b"[" * 100_000, b"{}", b'{"reason":[1]}'])
def test_a_mark_of_damage_of_another_form_is_a_mark_all_the_same(folder_store, published, body):
    path = f"objects/{published.object[:2]}/{published.object}/damaged.json"
    folder_store.backend.put(path, seal_raw(body))
    assert folder_store.lookup(published.stage, published.key).status == "known"
    assert folder_store.missing_bytes(published).startswith("its bytes are damaged")


def seal_raw(body: bytes) -> bytes:
    """Seal bytes that need not be JSON."""
    return b'{"sha256":"%s","body":%s}' % (hashlib.sha256(body).hexdigest().encode(), body)


# --- Payloads whose files are as their manifest says, and which unfold to more than they may.


def array_files(array, **options):
    """Store an array as `encode` does, but for some options of zarr's."""
    files = {}
    told = {"shards": array.shape, "chunks": (1, *array.shape[1:])} | options
    stored = zarr.create_array(
        MemoryStore(files), shape=array.shape, dtype=array.dtype, **told,
        chunk_key_encoding={"name": "default", "separator": "."},
    )  # fmt: skip
    stored[...] = array
    return {f"a.zarr/{name}": buffer.to_bytes() for name, buffer in files.items()}


def manifest_of(files, info):
    stored = [
        StoredFile(path=path, size=len(data), sha256=object_id(data))
        for path, data in files.items()
    ]
    return Manifest(files=tuple(stored), parts={"a": info}, logical=object_id(b""))


def refused_cheaply(files, info, said):
    tracemalloc.start()
    with pytest.raises(ArtifactCorrupt, match=said):
        decode(manifest_of(files, info), files)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 << 20


SMALL = PartInfo(kind="array", dtype="uint8", shape=(4, 8, 8))


def small_files():
    return dict(encode({"a": np.zeros((4, 8, 8), "uint8")}).files)


def test_a_chunk_that_unfolds_to_gigabytes_is_refused_undecoded():
    bomb = bytes(Zstd(1).encode(bytes(256 << 20)))
    assert len(bomb) < 1 << 20
    files = small_files()
    (path,) = [path for path in files if path.endswith("c.0.0.0")]
    # A frame that does not say how much it holds is refused too.
    for frame in (bomb, b"\x28\xb5\x2f\xfd\0\x58" + bomb[9:]):
        data = frame + google_crc32c.value(frame).to_bytes(4, "little")
        index = (bytes(8) + len(data).to_bytes(8, "little")) * 4
        checksum = google_crc32c.value(index).to_bytes(4, "little")
        refused_cheaply({**files, path: data + index + checksum}, SMALL, "does not unfold to its")


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 20, 1 << 20), (1 << 10, 1 << 11, 1 << 10)])
def test_an_array_of_astronomical_shape_is_refused_before_room_is_made(shape):
    files = small_files()
    described = json.loads(files["a.zarr/zarr.json"]) | {"shape": list(shape)}
    described["chunk_grid"]["configuration"]["chunk_shape"] = list(shape)
    files["a.zarr/zarr.json"] = json.dumps(described).encode()
    info = PartInfo(kind="array", dtype="uint8", shape=shape)
    refused_cheaply(files, info, "larger than any that is stored")


def test_an_array_of_another_layout_is_refused():
    array = np.zeros((4, 8, 8), "uint8")
    for options in (
        {"compressors": [GzipCodec()]},
        {"compressors": []},
        {"shards": None, "chunks": (4, 8, 8)},
        {"shards": (8, 8, 8)},
        {"serializer": BytesCodec(), "chunks": (4, 8, 8)},
    ):
        refused_cheaply(array_files(array, **options), SMALL, "cannot be decoded")


@pytest.mark.parametrize("dtype", ["object", "complex64", "<U8", "", None])
def test_an_array_of_a_type_that_is_not_stored_is_refused(dtype):
    info = PartInfo(kind="array", dtype=dtype, shape=(4, 8, 8))
    refused_cheaply(small_files(), info, "does not say what array")


@pytest.mark.parametrize(
    "data",
    [
        (1 << 62).to_bytes(8, "little") + b"{}",
        (100 << 20).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        b"\xff" * 8,
        b"",
        (61).to_bytes(8, "little")
        + b'{"x":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,4]}}'[:61]
        + b"\0\0\0\0",
    ],
)
def test_a_lying_header_of_tensors_is_refused(data):
    info = PartInfo(kind="tensors")
    refused_cheaply({"a.safetensors": data}, info, "cannot be decoded")


def test_many_thousand_empty_tensors_are_read():
    data = save({f"t{n}": np.zeros(0, "float32") for n in range(20_000)})
    found = decode(manifest_of({"a.safetensors": data}, PartInfo(kind="tensors")),
                   {"a.safetensors": data})  # fmt: skip
    assert len(found["a"]) == 20_000


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "x/../../y"])
def test_a_part_whose_name_is_a_path_is_nothing_but_a_name(path):
    files = small_files()
    manifest = manifest_of(files, SMALL).model_copy(update={"parts": {path: SMALL}})
    with pytest.raises(ArtifactCorrupt, match="cannot be decoded"):
        decode(manifest, files)


# --- Any bytes and any JSON: a typed error or nothing.


@pytest.fixture
def any_record(published):
    return published.model_dump(mode="json")


@pytest.fixture
def any_manifest(make_payload):
    encoded = encode(make_payload())
    return encoded.manifest.model_dump(mode="json"), dict(encoded.files)


ANY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)


@ANY
@given(value=JSON_VALUES, name=st.sampled_from(sorted(Record.model_fields)))
def test_a_record_with_any_field_replaced_is_read_or_refused(any_record, value, name):
    told = {**any_record, name: value}
    with suppress(ValueError):
        record = Record.from_bytes(seal_raw(json.dumps(told).encode()))
        with suppress(TypeError, ValueError):
            assert record.action.key
        assert record.size >= 0


@ANY
@given(value=JSON_VALUES, name=st.sampled_from(sorted(Manifest.model_fields)))
def test_a_manifest_with_any_field_replaced_is_read_or_refused(any_manifest, value, name):
    told, files = any_manifest
    with suppress(ValueError, ArtifactCorrupt):
        manifest = Manifest.from_bytes(seal_raw(json.dumps({**told, name: value}).encode()))
        for stored in manifest.files:
            check(stored, files.get(stored.path, b""))
        decode(manifest, files)


@ANY
@given(data=st.data())
def test_damaged_payloads_are_decoded_or_refused(any_manifest, data):
    """Bytes that were changed in many places, under a manifest that says that all is well."""
    told, files = any_manifest
    path = data.draw(st.sampled_from(sorted(files)))
    damaged = bytearray(files[path])
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255)), max_size=6)
    ):
        damaged[place] = value
    cut = data.draw(st.integers(0, len(damaged)))
    with suppress(ArtifactCorrupt):
        decode(Manifest.model_validate(told), {**files, path: bytes(damaged[:cut] or damaged)})
