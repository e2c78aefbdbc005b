"""Body mass index."""

import time
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from compute_service.sdk import task

Category = Literal[
    "underweight", "normal weight", "pre-obesity", "obesity class I", "obesity class II", "obesity class III"
]

_CATEGORIES: tuple[tuple[float, Category], ...] = (
    (18.5, "underweight"),
    (25.0, "normal weight"),
    (30.0, "pre-obesity"),
    (35.0, "obesity class I"),
    (40.0, "obesity class II"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BodyMassIndex:
    """A body mass index and what it means for an adult."""

    name: str
    bmi: Annotated[float, Field(description="Kilograms per square metre, to one decimal place.")]
    category: Annotated[Category, Field(description="Nutritional status of an adult, as the WHO names it.")]


@task(
    title="Body mass index",
    time_limit=3700,
    example={"name": "Ada", "weight_kg": 61.5, "height_cm": 168},
)
def bmi(
    name: Annotated[str, Field(min_length=1, max_length=200, description="Whose index it is.")],
    weight_kg: Annotated[float, Field(gt=0, le=700, description="Weight in kilograms.")],
    height_cm: Annotated[float, Field(ge=30, le=300, description="Height in centimetres.")],
    delay_seconds: Annotated[float, Field(ge=0, le=3600, description="Take this much longer, to watch it run.")] = 0,
) -> BodyMassIndex:
    """Body mass index from weight and height, with the category of the World Health Organization for adults."""
    if delay_seconds:
        time.sleep(delay_seconds)
    index = round(weight_kg / (height_cm / 100) ** 2, 1)
    category: Category = next((name for below, name in _CATEGORIES if index < below), "obesity class III")
    return BodyMassIndex(name=name, bmi=index, category=category)
