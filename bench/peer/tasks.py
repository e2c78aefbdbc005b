"""The Celery application and its one task, the same arithmetic as Coatcheck's ``bmi``."""

import time

from celery import Celery

app = Celery("pipeline", config_source="bench.peer.celeryconfig")

CATEGORIES = (
    (18.5, "underweight"),
    (25.0, "normal weight"),
    (30.0, "pre-obesity"),
    (35.0, "obesity class I"),
    (40.0, "obesity class II"),
)
TOP = "obesity class III"


@app.task(name="bmi")
def bmi(name: str, weight_kg: float, height_cm: float, delay_seconds: float = 0) -> dict[str, object]:
    """Body mass index (kg/m²) and its category, after *delay_seconds*."""
    if delay_seconds:
        time.sleep(delay_seconds)
    index = round(weight_kg / (height_cm / 100) ** 2, 1)
    category = next((name for below, name in CATEGORIES if index < below), TOP)
    return {"name": name, "bmi": index, "category": category}
