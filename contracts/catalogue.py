"""A task as its worker announces it and the gateway offers it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

LOCK_TEMPLATE = r"(?:[^{}]|\{\{|\}\}|\{\w+\})+"
"""``{name}`` stands for a param; braces of its own are doubled."""
TASK_NAME = r"^[a-z][a-z0-9_]{0,62}$"
POOL_NAME = r"^[a-z][a-z0-9_-]{0,62}$"


class TaskDescriptor(BaseModel):
    """Everything a gateway needs to know about a task; never its code."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(pattern=TASK_NAME)
    version: str = Field(min_length=1, max_length=64)
    title: str
    description: str
    params_schema: dict[str, Any]
    """JSON Schema 2020-12; an object that refuses unknown members all the way down."""
    result_schema: dict[str, Any]
    """JSON Schema 2020-12."""
    example: dict[str, Any]
    """Parameters that work as they stand."""
    pool: str = Field(pattern=POOL_NAME)
    time_limit: float
    """Seconds one attempt may take; a submission may ask for less."""
    memory_limit_mb: int | None
    max_attempts: int
    """The budget; a submission may ask for less."""
    first_retry_seconds: float | None = None
    """Back-off before the second attempt, doubled before each further one; None: the results service's setting."""
    last_retry_seconds: float | None = None
    """The longest back-off; None: the results service's setting."""
    retention_days: float | None = None
    """How long an ended job is kept, unless its submission says otherwise; None: the results service's setting."""
    locks: list[str] = Field(default_factory=list)
    """Templates such as ``dataset:{dataset}``."""


class CatalogueEntry(TaskDescriptor):
    """A task of the catalogue, and whether a live worker serves it at this moment."""

    serving: bool
