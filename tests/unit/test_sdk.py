"""The SDK: what a typed function becomes, and what is refused with which sentence."""

import dataclasses
import math
import threading
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from compute_service.definition import TaskDefinition
from compute_service.execution import execute
from compute_service.interrupts import Interrupts
from compute_service.outcomes import pointer
from compute_service.registry import Registry
from compute_service.sdk import MARK, Job, Retry, TaskDefinitionError, task
from contracts.job import Progress
from contracts.status import ErrorKind, Outcome


class Inner(BaseModel):
    """Takes what it declares."""

    when: datetime
    tags: dict[str, int] = Field(default_factory=dict)


@dataclasses.dataclass
class Outer:
    """Nests."""

    inner: Inner
    kind: Literal["a", "b"] = "a"


class Open(BaseModel):
    """Takes anything."""

    model_config = ConfigDict(extra="allow")


def definition(function: Any) -> TaskDefinition:
    found: TaskDefinition = getattr(function, MARK)
    return found


@task(example={"outer": {"inner": {"when": "2026-01-01T00:00:00Z"}}, "size": 3})
def sample(outer: Outer, size: Annotated[int, Field(ge=1, le=9)], job: Job, note: str | None = None) -> list[Inner]:
    """Says what it does
    in two lines.

    And then some.
    """  # noqa: D205
    return [outer.inner] * size


def run(function: Any, **params: Any) -> Any:
    return execute(definition(function), params, Job(), Interrupts())


def test_a_function_becomes_a_descriptor() -> None:
    """Name, texts, budget and schemas come from the function and its annotations."""
    descriptor = definition(sample).descriptor
    assert (descriptor.name, descriptor.title) == ("sample", "Sample")
    assert descriptor.description == "Says what it does in two lines."
    assert (descriptor.max_attempts, descriptor.pool, descriptor.version) == (3, "default", "1")
    assert descriptor.params_schema["$schema"].endswith("2020-12/schema")
    assert descriptor.params_schema["required"] == ["outer", "size"]
    assert "job" not in descriptor.params_schema["properties"]


def test_objects_are_closed_all_the_way_down() -> None:
    """Every object that lists its members refuses others; a map stays a map."""
    schema = definition(sample).descriptor.params_schema
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Outer"]["additionalProperties"] is False
    assert schema["$defs"]["Inner"]["additionalProperties"] is False
    assert schema["$defs"]["Inner"]["properties"]["tags"]["additionalProperties"] == {"type": "integer"}
    result = definition(sample).descriptor.result_schema
    assert result["items"]["$ref"] == "#/$defs/Inner"
    assert result["$defs"]["Inner"]["additionalProperties"] is False


def test_a_parameter_called_properties_is_no_keyword() -> None:
    """Closing a schema tells keywords from the names of parameters."""

    @task(example={"properties": 1})
    def odd(properties: int, items: int = 2) -> int:
        return properties

    schema = definition(odd).descriptor.params_schema
    assert set(schema["properties"]) == {"properties", "items"}
    assert schema["properties"]["properties"]["type"] == "integer"


def test_the_function_stays_callable() -> None:
    """A decorated function can be called and tested as it is."""
    inner = Inner(when=datetime(2026, 1, 1, tzinfo=UTC))
    assert sample(Outer(inner), 2, Job()) == [inner, inner]


def test_values_arrive_typed_and_leave_as_json() -> None:
    """JSON becomes the annotated types, and the result becomes JSON again."""
    outcome = run(sample, outer={"inner": {"when": "2026-01-01T00:00:00Z", "tags": {"x": 1}}}, size=1)
    assert outcome.outcome is Outcome.SUCCEEDED
    assert outcome.result == [{"when": "2026-01-01T00:00:00Z", "tags": {"x": 1}}]


def test_bad_parameters_have_pointers() -> None:
    """A fault in the parameters is told with an RFC 6901 pointer."""
    outcome = run(sample, outer={"inner": {"when": "yesterday"}}, size=10, more=1)
    assert outcome.error.kind is ErrorKind.INVALID_PARAMS
    assert [fault["pointer"] for fault in outcome.error.errors] == ["/outer/inner/when", "/size", "/more"]


@pytest.mark.parametrize(
    ("location", "document", "missing", "expected"),
    [
        (("a", "int"), {"a": {"b": 1}}, False, "/a"),
        (("a", 0, "Inner", "b/~"), {"a": [{"b/~": 1}]}, False, "/a/0/b~1~0"),
        (("a", "b"), {"a": {}}, True, "/a/b"),
        (("list[int]", 1), [1, "x"], False, "/1"),
        ((), {}, False, ""),
    ],
)
def test_pointers(location: tuple[int | str, ...], document: Any, missing: bool, expected: str) -> None:  # noqa: FBT001
    """Branches of unions do not appear in pointers, missing members do, and names are escaped."""
    assert pointer(location, document, missing=missing) == expected


def no_annotation(x) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001
def no_result(x: int): ...  # type: ignore[no-untyped-def]
def variadic(*x: int) -> None: ...
def positional(x: int, /) -> None: ...
def undescribable(x: threading.Thread) -> None: ...
def odd_default(x: object = object()) -> None: ...
def opened(x: Open) -> None: ...
def two_jobs(a: Job, b: Job) -> None: ...
def fine(x: int = 1) -> None: ...
def needs_example(x: int) -> None: ...
async def asynchronous() -> None: ...
def Upper() -> None: ...  # noqa: N802
def _generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("function", "options", "says"),
    [
        (no_annotation, {}, "'x' has no annotation"),
        (no_result, {}, "result has no annotation"),
        (variadic, {}, "'x' cannot be given by name"),
        (positional, {}, "'x' cannot be given by name"),
        (undescribable, {}, "parameters cannot be described"),
        (odd_default, {}, "not JSON serializable"),
        (opened, {"example": {"x": {}}}, "extra='allow'"),
        (two_jobs, {}, "takes the Job twice"),
        (asynchronous, {}, "it is async"),
        (Upper, {}, "its name must be"),
        (needs_example, {}, "none was given"),
        (needs_example, {"example": {"x": "1"}}, "example does not work"),
        (needs_example, {"example": {"x": 2**70}}, "64-bit"),
        (needs_example, {"example": {"x": math.nan}}, "not JSON"),
        (fine, {"example": {"y": 1}}, "y: Extra inputs"),
        (fine, {"retries": -1}, "retries=-1"),
        (fine, {"first_retry_seconds": -1}, "first_retry_seconds=-1"),
        (fine, {"last_retry_seconds": math.inf}, "last_retry_seconds=inf"),
        (fine, {"first_retry_seconds": 2, "last_retry_seconds": 1}, "is more than last_retry_seconds=1"),
        (fine, {"retention_days": 0}, "retention_days=0"),
        (fine, {"retention_days": 3651}, "retention_days=3651"),
        (fine, {"time_limit": 0}, "time_limit=0"),
        (fine, {"memory_limit_mb": 0}, "memory_limit_mb=0"),
        (fine, {"pool": "Not A Pool"}, "pool='Not A Pool'"),
        (fine, {"version": ""}, "version"),
        (fine, {"retry_on": (KeyboardInterrupt,)}, "no exception class"),
        (fine, {"locks": ("dataset:{y}",)}, "'y', which is no parameter"),
        (fine, {"locks": ("dataset:{",)}, "is no template"),
    ],
)
def test_a_bad_definition_is_refused(function: Any, options: dict[str, Any], says: str) -> None:
    """A definition that cannot work raises at once, naming the function and the fault."""
    with pytest.raises(TaskDefinitionError) as caught:
        task(**options)(function)
    assert says in str(caught.value)
    assert f"Task {function.__name__!r} (" in str(caught.value)


def test_annotations_may_be_text() -> None:
    """Annotations that are strings (PEP 563) are resolved, and those that cannot be are refused."""

    @task(example={"x": 1})
    def text(x: "int") -> "int":
        return x

    assert definition(text).descriptor.params_schema["properties"]["x"]["type"] == "integer"

    def lost(x: "Nowhere") -> int:  # type: ignore[name-defined]  # noqa: F821
        return 1

    with pytest.raises(TaskDefinitionError, match="Nowhere"):
        task(lost)


def test_two_tasks_cannot_share_a_name() -> None:
    """A name that is taken is refused; the same task found twice is not."""
    mine = definition(sample)
    assert len(Registry([mine, mine]).descriptors()) == 1
    with pytest.raises(TaskDefinitionError, match="'sample' is defined in"):
        Registry([mine, dataclasses.replace(mine)])


def test_progress_has_percent_and_estimate() -> None:
    """Progress carries percent and time to go, within bounds, and survives nonsense."""
    built: list[Progress] = []
    job = Job(report=lambda build: built.append(build()))
    job.progress(0, 4, stage="one")
    job.progress(1, 4, "m" * 5000, stage="one")
    job.progress(9, 4, stage="s\0" * 500)
    job.progress(math.nan, 0, "\ud800")
    assert [progress.percent for progress in built] == [0.0, 25.0, 100.0, None]
    assert built[1].eta_seconds is not None
    assert len(built[1].message or "") == 1024
    assert "\0" not in (built[2].stage or "")


def test_track_counts() -> None:
    """Tracking reports each item as done after the loop has dealt with it."""
    built: list[Progress] = []
    job = Job(report=lambda build: built.append(build()))
    assert list(job.track("abc", stage="letters")) == ["a", "b", "c"]
    assert [(progress.done, progress.total) for progress in built] == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("after", [-1, math.nan, math.inf, 1e300])
def test_retry_wants_sensible_seconds(after: float) -> None:
    """A wish for a retry in the past, or so late that no calendar holds it, is a fault of the task."""
    with pytest.raises(ValueError, match="zero or more"):
        Retry(after=after)


def test_a_task_says_how_it_is_repeated_and_how_long_it_is_kept() -> None:
    """What the decorator is told is in the catalogue; what it is not told is left to the service."""

    @task(retries=4, first_retry_seconds=0.5, last_retry_seconds=60, retention_days=7, example={"x": 1})
    def particular(x: int) -> int:
        return x

    told = definition(particular).descriptor
    assert (told.max_attempts, told.first_retry_seconds, told.last_retry_seconds, told.retention_days) == (
        5,
        0.5,
        60,
        7,
    )
    plain = definition(sample).descriptor
    assert (plain.first_retry_seconds, plain.last_retry_seconds, plain.retention_days) == (None, None, None)
