"""The Celery application and its one task, the same arithmetic as Coatcheck's ``bmi``."""

import time

from celery import Celery

app = Celery("pipeline", config_source="bench.peer.celeryconfig")

BOUNDS = ((18.5, "underweight"), (25.0, "normal"), (30.0, "overweight"))
TOP = "obese"


@app.task(name="bmi")
def bmi(name: str, weight_kg: float, height_cm: float, delay_seconds: float = 0) -> dict[str, object]:
    """Body mass index (kg/m²) and its class, after *delay_seconds*."""
    if delay_seconds:
        time.sleep(delay_seconds)
    index = round(weight_kg / (height_cm / 100) ** 2, 2)
    return {"name": name, "bmi": index, "category": next((word for limit, word in BOUNDS if index < limit), TOP)}
