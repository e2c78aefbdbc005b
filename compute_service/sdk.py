"""What a task is written with.

```python
from typing import Annotated
from compute_service.sdk import Job, task
from pydantic import Field

@task(example={"rows": 100})
def count_rows(rows: Annotated[int, Field(ge=1, le=10_000)], job: Job) -> int:
    '''Counts slowly.'''
    for _ in job.track(range(rows)):
        ...
    return rows
```
"""

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, overload

from compute_service.definition import Options, define
from compute_service.exceptions import (
    Cancelled,
    InvalidParams,
    Retry,
    Stopped,
    TaskDefinitionError,
    TimeLimitExceeded,
)
from compute_service.job import Job

__all__ = [
    "Cancelled",
    "InvalidParams",
    "Job",
    "Retry",
    "Stopped",
    "TaskDefinitionError",
    "TimeLimitExceeded",
    "task",
]

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_TIME_LIMIT_SECONDS = 3600.0
DEFAULT_RETRIES = 2
MARK = "__coatcheck_task__"
"""The attribute of a function under which its definition is kept."""


@overload
def task(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def task(
    *,
    title: str | None = ...,
    description: str | None = ...,
    pool: str = ...,
    time_limit: float = ...,
    memory_limit_mb: int | None = ...,
    retries: int = ...,
    retry_on: tuple[type[Exception], ...] = ...,
    first_retry_seconds: float | None = ...,
    last_retry_seconds: float | None = ...,
    retention_days: float | None = ...,
    example: Mapping[str, Any] | None = ...,
    version: str = ...,
    locks: tuple[str, ...] = ...,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def task(  # noqa: PLR0913 -- each is one word about a task; all have defaults
    function: Callable[P, R] | None = None,
    /,
    *,
    title: str | None = None,
    description: str | None = None,
    pool: str = "default",
    time_limit: float = DEFAULT_TIME_LIMIT_SECONDS,
    memory_limit_mb: int | None = None,
    retries: int = DEFAULT_RETRIES,
    retry_on: tuple[type[Exception], ...] = (),
    first_retry_seconds: float | None = None,
    last_retry_seconds: float | None = None,
    retention_days: float | None = None,
    example: Mapping[str, Any] | None = None,
    version: str = "1",
    locks: tuple[str, ...] = (),
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a task of a typed function, which stays callable as it is.

    Its parameters and result are described by their annotations, through pydantic; a parameter
    annotated with `Job` gets the running job. *title* defaults to the function's name,
    *description* to the first paragraph of its docstring. *time_limit* is in seconds per attempt;
    a job gets ``retries + 1`` attempts. An attempt that crashed, ran out of time or out of memory is
    repeated; one whose task raised only for `Retry` or an exception of *retry_on*. The pause before the
    second attempt is *first_retry_seconds*, doubled for each further one, *last_retry_seconds* at most;
    an ended job is kept for *retention_days*; where these are not given, the settings of the results
    service count. *example* is shown in forms and has to work; *locks* are templates such as
    ``"dataset:{dataset}"``.

    Raises `TaskDefinitionError` at once, naming the function and the fault.
    """
    options = Options(
        title=title,
        description=description,
        pool=pool,
        time_limit=time_limit,
        memory_limit_mb=memory_limit_mb,
        retries=retries,
        retry_on=tuple(retry_on),
        first_retry_seconds=first_retry_seconds,
        last_retry_seconds=last_retry_seconds,
        retention_days=retention_days,
        example=example,
        version=version,
        locks=tuple(locks),
    )

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        setattr(function, MARK, define(function, options))
        return function

    return decorate if function is None else decorate(function)
