"""The devices that torch can compute on."""

import os
import shutil
import sys


def devices() -> list[str]:
    """Return the devices that there are, by their names in torch."""
    import torch

    apple = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count())), *apple]


def gpu_of(device: str) -> str | None:
    """Return what the machine calls a GPU that this process may use; None for another device."""
    kind, _, number = device.partition(":")
    return visible_gpu(int(number or 0)) if kind == "cuda" else None


def visible_gpu(number: int) -> str:
    """Return what the machine calls one of the GPUs that this process may use.

    That is its number on the machine, or an id such as "MIG-…".
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[number].strip() if visible else str(number)


def free_memory(device: str) -> int | None:
    """Return the bytes that are free on a GPU; None for a device that shares the machine's."""
    import torch

    if torch.device(device).type != "cuda":
        return None
    free, _total = torch.cuda.mem_get_info(device)
    return int(free)


def memory_at_hand(device: str) -> int | None:
    """Return the bytes that this process has or may have on a GPU, as `free_memory`."""
    import torch

    free = free_memory(device)
    return None if free is None else free + torch.cuda.memory_reserved(device)


def compiler_fault(device: str) -> str | None:
    """Say which compiler `torch.compile` lacks for a device; None if it has one."""
    if device == "cpu":
        variable, usual = "CXX", ["clang++" if sys.platform == "darwin" else "g++"]
    else:
        variable, usual = "CC", ["gcc", "clang"]
    named = os.environ.get(variable)
    if any(shutil.which(name) for name in ([named] if named else usual)):
        return None
    return f"no compiler {named or ' or '.join(usual)} is found"


def device_fault(device: str) -> str | None:
    """Say why torch cannot compute on a device, and which there are; None if it can."""
    if device == "cpu":
        return None
    import torch

    try:
        torch.zeros(1, device=device).item()
    # Each backend raises errors of its own, and of any type.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"{reason:.200}. This machine has {', '.join(devices())}"
    return None
