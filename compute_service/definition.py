"""From a typed function to a task: what the decorator reads from it, and what it refuses."""

import inspect
import re
import string
import types
import typing
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic.json_schema import PydanticJsonSchemaWarning

from compute_service.exceptions import TaskDefinitionError
from compute_service.job import Job
from compute_service.schemas import closed
from contracts import bounds, codec
from contracts.catalogue import LOCK_TEMPLATE, POOL_NAME, TASK_NAME, TaskDescriptor
from contracts.job import MAX_RETENTION_DAYS, MAX_RETRY_SECONDS

MAX_RETRIES = 100
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The arguments of the decorator; see `compute_service.sdk.task`."""

    title: str | None
    description: str | None
    pool: str
    time_limit: float
    memory_limit_mb: int | None
    retries: int
    retry_on: tuple[type[Exception], ...]
    first_retry_seconds: float | None
    last_retry_seconds: float | None
    retention_days: float | None
    example: Mapping[str, Any] | None
    version: str
    locks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskDefinition:
    """A function, ready to be called with JSON and to answer in JSON."""

    descriptor: TaskDescriptor
    function: Callable[..., Any]
    params: type[BaseModel]
    result: TypeAdapter[Any]
    job_parameter: str | None
    """The parameter that gets the running `Job`."""
    retry_on: tuple[type[Exception], ...]


def define(function: Callable[..., Any], options: Options) -> TaskDefinition:
    """Read *function* into a definition; raises `TaskDefinitionError` with one sentence."""
    reader = _Reader(function)
    reader.check_function()
    reader.check_options(options)
    reader.check_repetition(options)
    params, job_parameter = reader.params()
    result = reader.result()
    title, description = reader.texts(options)
    descriptor = TaskDescriptor(
        name=function.__name__,
        version=options.version,
        title=title,
        description=description,
        params_schema=reader.schema("parameters", lambda: params.model_json_schema(mode="validation")),
        result_schema=reader.schema("result", lambda: result.json_schema(mode="serialization")),
        example=reader.example(params, options.example),
        pool=options.pool,
        time_limit=options.time_limit,
        memory_limit_mb=options.memory_limit_mb,
        max_attempts=options.retries + 1,
        first_retry_seconds=options.first_retry_seconds,
        last_retry_seconds=options.last_retry_seconds,
        retention_days=options.retention_days,
        locks=list(options.locks),
    )
    reader.check_locks(options.locks, params)
    return TaskDefinition(
        descriptor=descriptor,
        function=function,
        params=params,
        result=result,
        job_parameter=job_parameter,
        retry_on=options.retry_on,
    )


class _Reader:
    """Reads one function; every fault is a sentence that names it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._where = f"Task {function.__name__!r} ({function.__module__})"
        try:
            self._hints = typing.get_type_hints(function, include_extras=True)
        except NameError as error:
            self._fail(f"its annotations cannot be resolved: {error}")

    def _fail(self, fault: str) -> typing.NoReturn:
        raise TaskDefinitionError(f"{self._where}: {fault}.") from None

    def check_function(self) -> None:
        function = self._function
        if not re.match(TASK_NAME, function.__name__):
            self._fail("its name must be of lower-case letters, digits and underscores, 63 at most")
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            self._fail("it is async; a task is a plain function (use asyncio.run inside)")
        if inspect.isgeneratorfunction(function):
            self._fail("it yields; a task returns its result")
        if "return" not in self._hints:
            self._fail("its result has no annotation (say '-> None' if there is none)")

    def check_options(self, options: Options) -> None:
        if not 0 < options.time_limit < float("inf"):
            self._fail(f"time_limit={options.time_limit!r} is not a number of seconds above 0")
        if options.memory_limit_mb is not None and options.memory_limit_mb < 1:
            self._fail(f"memory_limit_mb={options.memory_limit_mb!r} is not 1 or more")
        if not re.match(POOL_NAME, options.pool):
            self._fail(f"pool={options.pool!r} is not a name of lower-case letters, digits, '_' and '-'")
        if not 1 <= len(options.version) <= 64:  # noqa: PLR2004 -- the descriptor's bound
            self._fail("its version is empty or longer than 64 characters")
        days = options.retention_days
        if days is not None and not 0 < days <= MAX_RETENTION_DAYS:
            self._fail(f"retention_days={days!r} is not above 0 and at most {MAX_RETENTION_DAYS}")

    def check_repetition(self, options: Options) -> None:
        if not 0 <= options.retries <= MAX_RETRIES:
            self._fail(f"retries={options.retries!r} is not between 0 and {MAX_RETRIES}")
        for name in ("first_retry_seconds", "last_retry_seconds"):
            seconds = getattr(options, name)
            if seconds is not None and not 0 <= seconds <= MAX_RETRY_SECONDS:
                self._fail(f"{name}={seconds!r} is not between 0 and {MAX_RETRY_SECONDS}")
        first, last = options.first_retry_seconds, options.last_retry_seconds
        if first is not None and last is not None and first > last:
            self._fail(f"first_retry_seconds={first!r} is more than last_retry_seconds={last!r}")
        for kind in options.retry_on:
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                self._fail(f"retry_on names {kind!r}, which is no exception class")

    def params(self) -> tuple[type[BaseModel], str | None]:
        fields: dict[str, Any] = {}
        job_parameter: str | None = None
        for name, parameter in inspect.signature(self._function).parameters.items():
            if parameter.kind in _VARIADIC:
                self._fail(f"its parameter {name!r} cannot be given by name")
            if name not in self._hints:
                self._fail(f"its parameter {name!r} has no annotation")
            if _is_job(self._hints[name]):
                if job_parameter is not None:
                    self._fail(f"it takes the Job twice, as {job_parameter!r} and as {name!r}")
                job_parameter = name
                continue
            if name.startswith("_") or name == "model_config":
                self._fail(f"its parameter {name!r} has a name that pydantic does not allow for a field")
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (self._hints[name], default)
        config = ConfigDict(extra="forbid", protected_namespaces=(), validate_default=True, allow_inf_nan=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # a parameter may be called "copy" or "json"
                model = create_model(f"{_camel(self._function.__name__)}Params", __config__=config, **fields)
        except Exception as error:  # noqa: BLE001 -- pydantic raises many kinds for what it cannot describe
            self._fail(f"its parameters cannot be described: {_first_line(error)}")
        return model, job_parameter

    def result(self) -> TypeAdapter[Any]:
        try:
            return TypeAdapter(self._hints["return"])
        except Exception as error:  # noqa: BLE001 -- see params
            self._fail(f"its result cannot be described: {_first_line(error)}")

    def schema(self, what: str, build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", PydanticJsonSchemaWarning)  # a default that is no JSON
                schema = closed(build())
            codec.dumps(schema)
        except Exception as error:  # noqa: BLE001 -- see params
            self._fail(f"its {what} have no JSON Schema: {_first_line(error)}")
        if what == "parameters":
            schema["title"] = _words(self._function.__name__)
        return schema

    def example(self, params: type[BaseModel], example: Mapping[str, Any] | None) -> dict[str, Any]:
        given = dict(example or {})
        try:
            params.model_validate_json(codec.dumps(given), strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            absent = "" if example is not None else " (none was given, so the defaults have to do)"
            self._fail(f"its example does not work{absent}: {where}: {first['msg']}")
        except (TypeError, ValueError) as error:
            self._fail(f"its example is not JSON: {_first_line(error)}")
        for fault in bounds.faults(given):
            self._fail(f"its example does not work: {fault.pointer}: {fault.detail}")
        return given

    def texts(self, options: Options) -> tuple[str, str]:
        paragraph = (inspect.getdoc(self._function) or "").split("\n\n")[0]
        return (
            options.title or _words(self._function.__name__),
            options.description or " ".join(paragraph.split()),
        )

    def check_locks(self, locks: tuple[str, ...], params: type[BaseModel]) -> None:
        for template in locks:
            try:
                names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
            except ValueError as error:
                self._fail(f"its lock {template!r} is no template: {error}")
            for name in names:
                if name not in params.model_fields:
                    self._fail(f"its lock {template!r} names {name!r}, which is no parameter")
            if re.fullmatch(LOCK_TEMPLATE, template) is None:
                self._fail(f"its lock {template!r} has more in its braces than the name of a parameter")


def _is_job(hint: Any) -> bool:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_is_job(member) for member in typing.get_args(hint))
    return isinstance(hint, type) and issubclass(hint, Job)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


def _words(name: str) -> str:
    return name.replace("_", " ").strip().capitalize()


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
