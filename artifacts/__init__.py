"""Naming of results by what they are made of, and the store that keeps them."""

from artifacts.errors import ArtifactCorrupt, ArtifactError, StoreAbsent, StoreUnavailable
from artifacts.keys import (
    JSON,
    Action,
    Digest,
    Key,
    SharedConfig,
    canonical_json,
    digest_bytes,
    digest_file,
    digest_json,
    digest_pixels,
    readable_json,
)
from artifacts.lookup.stat_cache import StatCache
from artifacts.payload import Document, Part, Payload, Picture, TensorFile
from artifacts.records import Circumstances, Lookup, Manifest, Progress, Record
from artifacts.store import ArtifactStore, Produced

__all__ = [
    "JSON",
    "Action",
    "ArtifactCorrupt",
    "ArtifactError",
    "ArtifactStore",
    "Circumstances",
    "Digest",
    "Document",
    "Key",
    "Lookup",
    "Manifest",
    "Part",
    "Payload",
    "Picture",
    "Produced",
    "Progress",
    "Record",
    "SharedConfig",
    "StatCache",
    "StoreAbsent",
    "StoreUnavailable",
    "TensorFile",
    "canonical_json",
    "digest_bytes",
    "digest_file",
    "digest_json",
    "digest_pixels",
    "readable_json",
]
