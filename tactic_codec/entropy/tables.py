"""The integer frequency tables of one quality level.

    FrequencyTables [T, K, N] ─ cumulative ─▶ interval [left, left + size) of 2^24 of every symbol

Tables are integers, fixed when a model is exported. The decoder computes no probability, so every
machine reads the same symbols (Ballé, Johnston, Minnen: Integer Networks for Data Compression with
Latent-Variable Models, ICLR 2019, on what happens otherwise).
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tactic_codec.entropy.contexts import ContextModel
from tactic_codec.entropy.linear import LinearContexts
from tactic_codec.entropy.pure import TOTAL
from tactic_codec.errors import DamagedModel

Contexts = ContextModel | LinearContexts
"""What chooses among the tables of a channel."""

SYMBOL_LIMIT = 2**20  # the encoder clamps symbols to it; a trained latent stays far below


@dataclass(frozen=True, eq=False)
class FrequencyTables:
    """One table per set and context, where each channel has a set of its own or shares one.

    Attributes:
        minimum: the value of index 0; index i < N - 1 is the value ``minimum + i``, and the last
            index is the escape, which announces a value outside the table.
        frequencies: uint32 [T, K, N], N at least 3, each at least 1, each table's sum 2^24.
            Any integer array is accepted, checked and kept as a read-only copy.
        contexts: chooses among the K tables of a set; ``contexts.count`` is K.
        sets: integers [C], the set of each channel, from 0 to T - 1; by default channel c has
            set c.

    Raises:
        DamagedModel: the attributes break these rules.
    """

    minimum: int
    frequencies: NDArray[np.integer[Any]]
    contexts: Contexts = field(default_factory=ContextModel)
    sets: NDArray[np.integer[Any]] | None = None

    def __post_init__(self) -> None:
        given = np.asarray(self.frequencies)
        if given.ndim != 3 or given.dtype.kind not in "iu" or 0 in given.shape:
            raise DamagedModel(
                f"frequency tables of shape {given.shape} and type {given.dtype}; "
                "expected integers [sets, contexts, symbols]"
            )
        if given.shape[1] != self.contexts.count:
            raise DamagedModel(
                f"{given.shape[1]} tables per channel for {self.contexts.count} contexts"
            )
        sets = np.arange(given.shape[0]) if self.sets is None else np.asarray(self.sets)
        if sets.ndim != 1 or sets.dtype.kind not in "iu" or sets.size == 0:
            raise DamagedModel(f"sets of tables {sets.dtype} {sets.shape}; expected integers [C]")
        if sets.min() < 0 or sets.max() >= given.shape[0]:
            raise DamagedModel(
                f"channels with the sets {sets.min()} to {sets.max()} of {given.shape[0]}"
            )
        if isinstance(self.contexts, LinearContexts) and self.contexts.channels != sets.size:
            raise DamagedModel(
                f"contexts of {self.contexts.channels} channels for tables of {sets.size}"
            )
        object.__setattr__(self, "sets", sets.astype(np.intp))
        if given.shape[2] < 3:
            raise DamagedModel(f"tables of {given.shape[2]} symbols; expected at least 3")
        if given.min() < 1 or given.max() >= TOTAL:
            raise DamagedModel(
                f"frequencies from {given.min()} to {given.max()}; expected 1 to {TOTAL - 1}"
            )
        sums = given.sum(axis=2, dtype=np.int64)
        if (sums != TOTAL).any():
            channel, context = np.argwhere(sums != TOTAL)[0]
            raise DamagedModel(
                f"the table of set {channel}, context {context} sums to "
                f"{sums[channel, context]}; expected {TOTAL}"
            )
        frequencies = given.astype(np.uint32, order="C")
        frequencies.setflags(write=False)
        object.__setattr__(self, "frequencies", frequencies)
        if self.minimum < -SYMBOL_LIMIT or self.maximum > SYMBOL_LIMIT:
            raise DamagedModel(
                f"table values from {self.minimum} to {self.maximum}; "
                f"expected {-SYMBOL_LIMIT} to {SYMBOL_LIMIT}"
            )

    @property
    def channels(self) -> int:
        """C, the number of channels."""
        assert self.sets is not None
        return int(self.sets.size)

    @property
    def escape(self) -> int:
        """N - 1, the index of the escape symbol."""
        return int(self.frequencies.shape[2]) - 1

    @property
    def maximum(self) -> int:
        """The largest value that needs no escape."""
        return self.minimum + self.escape - 1

    @cached_property
    def first_rows(self) -> NDArray[np.intp]:
        """[C], the row of each channel's context 0 where tables are numbered ``set * K + k``."""
        assert self.sets is not None
        return self.sets.astype(np.intp) * self.contexts.count

    @cached_property
    def cumulative(self) -> NDArray[np.uint32]:
        """[T * K, N + 1], from 0 to 2^24: symbol i owns ``[cumulative[i], cumulative[i + 1])``."""
        rows = self.frequencies.reshape(-1, self.escape + 1)
        cumulative = np.zeros((rows.shape[0], rows.shape[1] + 1), np.uint32)
        np.cumsum(rows, axis=1, out=cumulative[:, 1:])
        return cumulative
