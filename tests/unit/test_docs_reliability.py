"""docs/reliability.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
PROMISES = 11


def test_every_promise_is_there() -> None:
    """Eleven promises, in the order of their numbers."""
    assert re.findall(r"^### (\d+)\. ", PAGE, re.MULTILINE) == [str(number) for number in range(1, PROMISES + 1)]


def test_named_tests_exist() -> None:
    """Every file of tests that the page names is in tests/promises."""
    named = re.findall(r"`(test_\w+\.py)`", PAGE)
    assert named
    assert [name for name in named if not (ROOT / "tests" / "promises" / name).exists()] == []


def test_each_test_says_what_breaks_it() -> None:
    """Every test of these promises names the line to break."""
    for path in (ROOT / "tests" / "promises").glob("test_promise_*.py"):
        text = path.read_text()
        tests = re.findall(r"^def (test_\w+)\(.*?^    \"\"\"(.*?)\"\"\"", text, re.MULTILINE | re.DOTALL)
        silent = [name for name, docstring in tests if "Break: " not in docstring]
        assert silent == [], path.name
