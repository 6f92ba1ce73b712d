"""Several processes that train one network, each on its own part of every batch.

They are started by ``torchrun --nproc-per-node N``, which tells each its number by environment
variables. Gradients are averaged here rather than by DistributedDataParallel, which cannot follow
the gradient penalty's gradient of a gradient.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from clipsr_cli.errors import DeviceError
from clipsr_cli.runtime import available_memory


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Which of how many processes this is."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """The one that writes files and speaks."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the processes, in place."""
        if self.count == 1 or not tensors:
            return
        # One message rather than hundreds.
        flat = torch.cat([tensor.detach().flatten().float() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.detach().copy_(part.view_as(tensor))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """The processes that torchrun started, or this one alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Long, as the others wait while the first evaluates.
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(hours=2))
    yield Processes(rank=dist.get_rank(), count=dist.get_world_size())
    # Not after an error: it waits for the others, which wait for this one. The end of this process
    # is what tells torchrun to end them.
    dist.destroy_process_group()


def own_device(name: str) -> str:
    """The device of this process: with several on GPUs, each takes its own.

    Raises:
        DeviceError: one GPU was named for several processes, or Apple's, on which the backward
            pass of CLIP's resizing is missing (https://github.com/pytorch/pytorch/issues/141287).
    """
    if name == "mps":
        raise DeviceError("Training does not run on 'mps'.", hint="Use --device cpu or cuda.")
    if name == "auto" and not torch.cuda.is_available():
        return "cpu"
    local, count = os.environ.get("LOCAL_RANK"), int(os.environ.get("WORLD_SIZE", "1"))
    if local is None or count == 1:
        return name
    if name.startswith("cuda:"):
        raise DeviceError(
            f"The device {name!r} was named for {count} processes.", hint="Use --device cuda."
        )
    # Without a GPU, ``auto`` was answered above.
    return f"cuda:{local}" if name in ("auto", "cuda") else name


def fair_memory() -> float:
    """This process's share of the memory that the machine, or its container, still has: bytes."""
    return available_memory() / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
