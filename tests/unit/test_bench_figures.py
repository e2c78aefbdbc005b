"""The arithmetic under every number that the bench prints."""

import pytest

from bench.figures import Spread, figure, percentile, ratio


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (1, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)])
def test_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    """Of one hundred values, the p99 is the 99th, in whatever order they came."""
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_percentile_of_one_value() -> None:
    """A single value is every percentile."""
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7.0


def test_percentile_of_nothing_is_refused() -> None:
    """No measurements are an error, not a zero."""
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


def test_spread_names_median_and_extremes() -> None:
    """Repetitions are shown as the median with the lowest and the highest."""
    spread = Spread.of([300.0, 100.0, 120.0])
    assert (spread.median, spread.lowest, spread.highest) == (120.0, 100.0, 300.0)
    assert str(spread) == "120 (100-300)"


def test_spread_of_one_repetition_shows_no_range() -> None:
    """One repetition has no spread to show."""
    assert str(Spread.of([12.34])) == "12.3"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.00"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (1234.5, "1,234")]
)
def test_figure_keeps_three_significant_digits(value: float, text: str) -> None:
    """Numbers are as exact as they are meant."""
    assert figure(value) == text


def test_ratio_to_nothing_is_none() -> None:
    """A peer that measured zero gives no ratio, and no crash at the end of a long run."""
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(3.0, 0.0) is None
