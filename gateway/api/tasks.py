"""The catalogue, and the submission of one task's jobs."""

from typing import Any

from flask import Response

from gateway.api.jobs import submit
from gateway.api.resource import Resource, answer
from gateway.catalogue import Offer
from gateway.submissions import TaskSubmission, parse


class Tasks(Resource):
    """``/tasks``."""

    def get(self) -> Response:
        """Every task that is accepted."""
        offers = self.services.catalogue.offers().by_name
        base = self.services.links.base()
        tasks = [self._describe(offers[name], base) for name in sorted(offers)]
        return answer({"tasks": tasks, "next": None})

    def _describe(self, offer: Offer, base: str) -> dict[str, Any]:
        return {**offer.entry.model_dump(mode="json"), "links": self.services.links.task(offer.entry.name, base)}


class Task(Tasks):
    """``/tasks/{task}``."""

    def get(self, task: str) -> Response:  # type: ignore[override]  # the arguments are the route's
        """One task."""
        return answer(self._describe(self.services.catalogue.task(task), self.services.links.base()))


class TaskJobs(Resource):
    """``/tasks/{task}/jobs``."""

    def post(self, task: str) -> Response:
        """Submit a job of this task."""
        offer = self.services.catalogue.task(task)
        return submit(self.services, parse(TaskSubmission, self.json_body()), offer)
