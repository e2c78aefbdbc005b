"""The JSON codec and the bounds on what may enter the ledger."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import bounds, codec

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text("abc/~", max_size=3), children, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
def test_what_json_can_say_survives(value: object) -> None:
    """Every JSON value within the bounds comes back as it went out, and has no fault."""
    assert codec.loads(codec.dumps(value)) == value
    assert list(bounds.faults(value)) == []


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a":1,"a":2}', "{", "", "1 2", "[" * 100_000])
def test_what_is_no_json_is_refused(text: str) -> None:
    """NaN, duplicate names, broken and absurdly deep text raise ValueError, whatever the parser would do."""
    with pytest.raises(ValueError, match=r"."):
        codec.loads(text)


def test_bytes_that_are_no_utf8_are_refused() -> None:
    """The sentence names the byte."""
    with pytest.raises(ValueError, match="byte 1"):
        codec.loads(b'"\xff"')


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({"a": 2**63}, "/a"),
        ({"a": [1, "x\0y"]}, "/a/1"),
        ({"a/b": {"c~d": "\ud800"}}, "/a~1b/c~0d"),
        ({"a\0": 1}, "/a\0"),
        ([float("inf")], "/0"),
        ([[float("nan")]], "/0/0"),
    ],
)
def test_each_fault_is_named_by_its_pointer(value: object, pointer: str) -> None:
    """A value outside the bounds has one fault, at an RFC 6901 pointer."""
    assert [fault.pointer for fault in bounds.faults(value)] == [pointer]


def test_nesting_is_bounded() -> None:
    """64 levels are fine, 65 are not."""
    value: object = 1
    for _ in range(bounds.MAX_NESTING):
        value = [value]
    assert list(bounds.faults(value)) == []
    assert len(list(bounds.faults([value]))) == 1
