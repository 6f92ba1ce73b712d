"""Decide the device and the precision a network runs in, and say what is there."""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import psutil
import torch

from clipsr_cli.errors import DeviceError, InputError

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Where Linux says what a container may use and uses: folder, limit, usage (cgroups 2 and 1).
CONTAINER_LIMITS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def pick_device(name: str = "auto") -> torch.device:
    """The device a name stands for: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` is the first CUDA device, else Apple's GPU, else the CPU.

    Raises:
        InputError: the name means nothing.
        DeviceError: that device is not there; never falls back in silence.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"{name!r} is no device.", hint="Use auto, cpu, cuda, cuda:N or mps."
        ) from error
    if str(device) != name:
        # Torch keeps the number in a byte: it takes cuda:256 for cuda:0.
        raise DeviceError(f"The device {name!r} is not there.", hint="See clipsr env.")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(
                f"The device {name!r} is not there: {count} CUDA device(s) found.",
                hint="See clipsr env, or use --device cpu.",
            )
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(
            "The device 'mps' is not there.", hint="See clipsr env, or use --device cpu."
        )
    if device.type not in ("cpu", "mps"):
        raise DeviceError(
            f"The device {name!r} is not supported.", hint="Use auto, cpu, cuda, cuda:N or mps."
        )
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """The precision a name stands for on a device: ``fp32``, ``fp16`` or ``bf16``.

    ``auto`` is fp16 on CUDA and fp32 elsewhere, where mixed precision is slower.

    Raises:
        InputError: the name means nothing, or the device cannot do it.
    """
    if name == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    if name not in PRECISIONS:
        raise InputError(f"{name!r} is no precision.", hint="Use auto, fp32, fp16 or bf16.")
    if name == "fp16" and device.type == "cpu":
        raise InputError("The CPU does not do fp16.", hint="Use --precision fp32 or bf16.")
    return name


def mixed_precision(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """The autocast region for a precision; nothing for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=PRECISIONS[precision])


def describe_device(device: torch.device) -> str:
    """A device in words, such as ``cuda:0 (NVIDIA H200)``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} of {os.cpu_count()} cores)"
    return str(device)


def free_device_memory(device: torch.device) -> int:
    """Bytes of a CUDA device that new tensors may take, this process's own reserve included."""
    free, _ = torch.cuda.mem_get_info(device)
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + reserve


def available_memory() -> int:
    """Bytes of main memory that this process may still take: the machine's, or its container's."""
    available = psutil.virtual_memory().available
    for folder, limit, used in CONTAINER_LIMITS:
        try:
            most = int(Path(folder, limit).read_text())
            available = min(available, most - int(Path(folder, used).read_text()))
        except (OSError, ValueError):
            # Not in such a container, or one without a limit ("max").
            continue
    return max(0, available)


def resident_memory() -> int:
    """Bytes of main memory that this process takes."""
    return psutil.Process().memory_info().rss
