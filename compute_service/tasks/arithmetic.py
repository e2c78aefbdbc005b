"""One operation on two numbers."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from compute_service.sdk import task

Operation = Literal["sum", "mul", "sub", "div"]

_OPERATIONS: dict[Operation, Callable[[float, float], float]] = {
    "sum": operator.add,
    "mul": operator.mul,
    "sub": operator.sub,
    "div": operator.truediv,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Computation:
    """What was computed, and what came out."""

    operation: Operation
    value: float
    other: float
    result: float


@task(time_limit=60, example={"operation": "mul", "value": 6, "other": 7})
def arithmetic(
    operation: Annotated[Operation, Field(description="What to do with the two numbers.")],
    value: Annotated[float, Field(description="The first number.")],
    other: Annotated[float, Field(description="The second number: added, multiplied by, subtracted, divided by.")],
) -> Computation:
    """Adds, multiplies, subtracts or divides two numbers (64-bit floating point)."""
    if operation == "div" and other == 0:
        msg = f"{value:g} cannot be divided by zero."
        raise ZeroDivisionError(msg)
    result = _OPERATIONS[operation](value, other)
    if not math.isfinite(result):
        msg = f"The {operation} of {value:g} and {other:g} is too large for a 64-bit floating point number."
        raise OverflowError(msg)
    return Computation(operation=operation, value=value, other=other, result=result)
