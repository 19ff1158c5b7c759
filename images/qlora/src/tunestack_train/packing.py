"""Which examples share a row: best fit decreasing, so that almost nothing of a row is padding.

The longest example first, each into the fullest row that still has room for it. The outcome depends on the lengths and
the capacity alone, so a resumed run and every process of a distributed one make the same rows.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Packing:
    """`rows`: the indices of the examples in each row. `tokens`: of all examples. `capacity`: tokens a row can hold."""

    rows: tuple[tuple[int, ...], ...]
    tokens: int
    capacity: int

    @property
    def padding(self) -> float:
        """The share of padding when every row is filled up to the capacity."""
        return 1 - self.tokens / (len(self.rows) * self.capacity) if self.rows else 0.0


def pack(lengths: Sequence[int], capacity: int) -> Packing:
    """Rows of at most `capacity` tokens for examples of these lengths, in tokens.

    Within a row examples stand in the order of the data; of equally long ones the earlier is placed first. Raises
    ValueError for an example that fits into no row.
    """
    if any(length > capacity for length in lengths):
        raise ValueError(f"an example of {max(lengths)} tokens does not fit into a row of {capacity}")
    rows: list[list[int]] = []
    by_room: defaultdict[int, list[int]] = defaultdict(list)
    # Bit n is set while a row has room for exactly n tokens: the best fit is the lowest set bit from the length on.
    rooms = 0
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[index]
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(index)
        by_room[room - length].append(row)
        rooms |= 1 << (room - length)
    return Packing(tuple(tuple(sorted(row)) for row in rows), sum(lengths), capacity)
