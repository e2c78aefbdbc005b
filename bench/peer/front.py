"""The HTTP front: POST a job, get its pid; GET the job by its pid."""

from typing import Any

from flask import Flask, request
from flask_restx import Api, Resource, fields

from bench.peer.tasks import app as celery
from bench.peer.tasks import bmi

application = Flask(__name__)
api = Api(application, title="Pipeline", version="1")

params = api.model(
    "BmiParams",
    {
        "name": fields.String(required=True, min_length=1, max_length=200),
        "weight_kg": fields.Float(required=True, min=0, exclusiveMin=True, max=700),
        "height_cm": fields.Float(required=True, min=30, max=300),
        "delay_seconds": fields.Float(min=0, max=3600, default=0),
    },
    strict=True,
)
submission = api.model(
    "Submission",
    {"task": fields.String(required=True, enum=["bmi"]), "params": fields.Nested(params, required=True)},
    strict=True,
)


@api.route("/jobs")
class Jobs(Resource):
    """All jobs."""

    @api.expect(submission, validate=True)
    def post(self) -> tuple[dict[str, Any], int]:
        """Hand in a job; 202 when RabbitMQ has confirmed it."""
        ticket = bmi.apply_async(kwargs=request.get_json()["params"])
        return {"pid": ticket.id, "status": "PENDING"}, 202


@api.route("/jobs/<string:pid>")
class Job(Resource):
    """One job."""

    def get(self, pid: str) -> dict[str, Any]:
        """The job's state and, at its end, its result: one look into MongoDB."""
        meta = celery.backend.get_task_meta(pid)
        ended_well = meta["status"] == "SUCCESS"
        return {
            "pid": pid,
            "status": meta["status"],
            "result": meta["result"] if ended_well else None,
            "error": str(meta["result"]) if meta["status"] == "FAILURE" else None,
        }
