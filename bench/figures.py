"""The arithmetic of the bench: percentiles, medians, spreads, ratios."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of *values* that at least *share* per cent of them do not exceed (nearest rank).

    Raises `ValueError` for no values.
    """
    if not values:
        raise ValueError("There is no percentile of nothing.")
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 100)  # rounded up
    return ordered[max(int(rank), 1) - 1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """What several repetitions of one measurement gave."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Sum up *values*, at least one."""
        return cls(median=statistics.median(values), lowest=min(values), highest=max(values))

    def __str__(self) -> str:
        if self.lowest == self.highest:
            return figure(self.median)
        return f"{figure(self.median)} ({figure(self.lowest)}-{figure(self.highest)})"


def figure(value: float) -> str:
    """*value* with about three significant digits, never in exponent form."""
    decimals = next((decimals for limit, decimals in ((100, 0), (10, 1)) if abs(value) >= limit), 2)
    return f"{value:,.{decimals}f}"


def ratio(ours: float, theirs: float) -> float | None:
    """Ours over theirs; None where theirs is zero."""
    return ours / theirs if theirs else None
