"""The lock keys that templates make of params."""

import pytest

from contracts.catalogue import CatalogueEntry
from gateway.lock_keys import lock_keys


def entry(*templates: str) -> CatalogueEntry:
    """A task with these lock templates; its param ``size`` has a default."""
    return CatalogueEntry(
        name="plan",
        version="1",
        pool="default",
        memory_limit_mb=None,
        title="Plan",
        description="",
        params_schema={"properties": {"size": {"default": 3}}},
        result_schema={},
        example={},
        time_limit=60,
        max_attempts=1,
        locks=list(templates),
        serving=True,
    )


@pytest.mark.parametrize(
    ("templates", "params", "keys"),
    [
        (("all",), {}, ["all"]),
        (("dataset:{dataset}",), {"dataset": "d1"}, ["dataset:d1"]),
        (("object:{objects}",), {"objects": [7, 8, "x"]}, ["object:7", "object:8", "object:x"]),
        (("size:{size}",), {}, ["size:3"]),
        (("size:{size}",), {"size": None}, []),
        (("{{{a}}}:{b}",), {"a": True, "b": {"y": 1, "x": 2}}, ['{true}:{"x":2,"y":1}']),
        (("{a}-{b}",), {"a": [1, 2], "b": [3, 4]}, ["1-3", "1-4", "2-3", "2-4"]),
        (("{a}",), {"a": "{b}"}, ["{b}"]),
    ],
)
def test_a_template_makes_keys(templates: tuple[str, ...], params: dict[str, object], keys: list[str]) -> None:
    """Values, members of lists and defaults stand where the template names them, and are never templates again."""
    assert lock_keys(entry(*templates), params, []) == (keys, [])


def test_what_is_asked_for_is_added() -> None:
    """The submission's own keys and the template's are one set."""
    assert lock_keys(entry("all", "b"), {}, ["b", "a"]) == (["a", "all", "b"], [])


def test_keys_are_bounded() -> None:
    """Too many keys, and one that is too long, are faults; a product of long lists is not made whole."""
    many = [str(number) for number in range(10_000)]
    _, (fault,) = lock_keys(entry("{a}{b}{c}"), {"a": many, "b": many, "c": many}, [])
    assert fault.pointer == "/locks"
    _, (fault,) = lock_keys(entry("{a}"), {"a": "x" * 257}, [])
    assert fault.pointer == "/params"
