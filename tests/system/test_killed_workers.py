"""A job that kills its worker, on the whole stack."""

from running_stack import MakeStack

from client import Coatcheck


def test_a_job_that_kills_its_worker_every_time_ends_as_failed(new_stack: MakeStack) -> None:
    """Each worker that it takes with it costs an attempt, so it ends when they are spent; others run on."""
    stack = new_stack(TASK_MODULES="compute_service.tasks,tests.system.killer_tasks", LEASE_SECONDS="4")
    stack.start()
    with Coatcheck(stack.api) as service:
        job = service.wait(service.submit("kills_its_worker", {})["pid"], timeout_seconds=200)
        assert (job["status"], job["error"]["kind"], job["attempts_total"]) == ("failed", "worker_lost", 2)
        assert [attempt["error"]["kind"] for attempt in job["attempts"]] == ["worker_lost", "worker_lost"]
        assert len({attempt["worker"] for attempt in job["attempts"]}) == 2
        pid = service.submit("bmi", {"name": "Ada", "weight_kg": 70, "height_cm": 175})["pid"]
        assert service.wait(pid, timeout_seconds=60)["status"] == "succeeded"
