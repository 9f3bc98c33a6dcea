"""The table of errors, and what the store keeps of them."""

import errno

import pytest

from adaptivedrag.errors import DeviceMemoryExhausted, InvalidEdit, ModelUnavailable, NotFinite
from artifacts import ArtifactCorrupt, StoreUnavailable
from stages.failures import Attempt, Policy, StageTimedOut, policy_of
from stages.stage import InputChanged

ERRORS = [
    (StoreUnavailable("no answer"), "retry"),
    (OSError(errno.ENOSPC, "disk full"), "retry"),
    (FileNotFoundError(errno.ENOENT, "gone"), "fail"),
    (MemoryError("Unable to allocate 7.11 PiB"), "step down"),
    (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
        "step down",
    ),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "step down"),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "fail"),
    (DeviceMemoryExhausted("not enough"), "fail"),
    (InvalidEdit("no mask"), "quarantine"),
    (NotFinite("step 3", step=2, state={}), "quarantine"),
    (InputChanged("another image"), "fail"),
    (ModelUnavailable("not here"), "fail"),
    (StageTimedOut("too long"), "fail"),
    (ArtifactCorrupt("a flipped bit"), "fail"),
    (KeyError("a bug"), "fail"),
]


@pytest.mark.parametrize(("error", "policy"), ERRORS, ids=lambda value: repr(value)[:40])
def test_every_error_has_one_policy(error, policy):
    assert policy_of(error) == policy


def test_torch_says_itself_when_memory_is_short():
    import torch

    assert policy_of(torch.OutOfMemoryError("CUDA out of memory")) is Policy.STEP_DOWN
    with pytest.raises(RuntimeError) as raised:
        torch.empty(10**15)
    assert policy_of(raised.value) is Policy.STEP_DOWN


def test_an_attempt_is_read_as_it_was_kept_and_older_ones_too():
    with pytest.raises(InvalidEdit) as raised:
        raise InvalidEdit("edit a: no mask\nname one")
    attempt = Attempt.of("a", raised.value)
    assert Attempt.from_document(attempt.document()) == attempt
    assert (str(attempt), attempt.policy) == ("InvalidEdit: edit a: no mask", "quarantine")
    assert "raise InvalidEdit" in attempt.traceback
    assert Attempt.from_document({"message": "too dark"}).policy is Policy.FAIL
