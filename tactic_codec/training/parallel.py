"""Several processes at one run, as ``torchrun`` starts them; one process where nobody did."""

import os
from typing import NamedTuple

import torch
from torch import distributed


class Share(NamedTuple):
    """A process's share of every batch: the images ``rank``, ``rank + of`` and on."""

    rank: int = 0
    of: int = 1

    @property
    def first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    @property
    def slice(self) -> slice:
        """The share of a sequence."""
        return slice(self.rank, None, self.of)


def join(device: str) -> None:
    """Join the other processes, where ``torchrun`` started several."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if device == "cuda" else "gloo")


def share() -> Share:
    """Return this process's share."""
    if not distributed.is_initialized():
        return Share()
    return Share(distributed.get_rank(), distributed.get_world_size())


def wait() -> None:
    """Wait for the other processes."""
    if distributed.is_initialized():
        distributed.barrier()


def leave() -> None:
    """Leave the other processes at the end of a run, when all have come to it."""
    if distributed.is_initialized():
        # Whoever takes the group down while another still works in it may take that one down, too.
        distributed.barrier()
        distributed.destroy_process_group()
