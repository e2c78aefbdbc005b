"""Ids, errors and messages that every service shares."""

import pytest
from pydantic import ValidationError

from contracts.errors import CoatcheckError, Conflict, NotFound, from_wire, to_wire
from contracts.ids import is_pid, new_id
from contracts.messages import SCHEMA_VERSION, Doorbell, Finish
from contracts.settings import ServiceSettings, load
from contracts.status import ACTIVE, TERMINAL, JobStatus, Outcome


def test_a_pid_sorts_by_time_and_is_recognised() -> None:
    """Ids made one after the other sort in that order; nothing else passes for one."""
    pids = [new_id() for _ in range(100)]
    assert pids == sorted(pids)
    assert all(is_pid(pid) for pid in pids)
    for other in ("", "x", pids[0] + "\n", pids[0].upper().replace("0", "O"), "6ba7b810-9dad-11d1-80b4-00c04fd430c8"):
        assert not is_pid(other)


def test_every_status_is_active_or_terminal() -> None:
    """No state is forgotten, none is both."""
    assert set(JobStatus) == ACTIVE | TERMINAL
    assert not ACTIVE & TERMINAL


def test_an_error_crosses_the_wire_as_itself() -> None:
    """Class, sentence and members arrive on the other side."""
    error = from_wire(to_wire(Conflict("Job x holds the lock.", {"blocking": [{"pid": "x"}]})))
    assert isinstance(error, Conflict)
    assert (str(error), error.members) == ("Job x holds the lock.", {"blocking": [{"pid": "x"}]})
    assert str(from_wire(to_wire(NotFound()))) == "There is no such thing."


def test_a_foreign_error_keeps_its_text_to_itself() -> None:
    """What is not ours crosses as the base class and leaks nothing."""
    error = from_wire(to_wire(RuntimeError("password=hunter2")))
    assert type(error) is CoatcheckError
    assert "hunter2" not in str(error)


def test_an_error_of_nameko_is_understood() -> None:
    """A reply with an unknown class is still an error, not a crash."""
    wire = {
        "exc_type": "MethodNotFound",
        "exc_path": "nameko.exceptions.MethodNotFound",
        "exc_args": ["x"],
        "value": "x",
    }
    assert str(from_wire(wire)) == "MethodNotFound: x"


def test_a_message_of_a_newer_version_is_refused() -> None:
    """Unknown fields are ignored, an unknown version is not."""
    assert Doorbell.model_validate({"pool": "gpu", "later": 1}).pool == "gpu"
    with pytest.raises(ValidationError):
        Doorbell.model_validate({"pool": "gpu", "schema_version": SCHEMA_VERSION + 1})


def test_a_bad_setting_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service exits naming the variable, without a traceback and without its secret."""
    monkeypatch.setenv("HEARTBEAT", "soon")
    monkeypatch.setenv("AMQP_URI", "amqp://u:hunter2@h/")
    with pytest.raises(SystemExit, match="HEARTBEAT") as stop:
        load(ServiceSettings)
    assert "hunter2" not in str(stop.value)


@pytest.mark.parametrize(
    "wish", [{"retry_after_seconds": 1e300}, {"retry_after_seconds": float("inf")}, {"retention_days": 1e300}]
)
def test_a_wish_that_no_calendar_holds_is_no_message(wish: dict[str, float]) -> None:
    """The ledger adds it to a time, for many jobs at once: one that overflows would spoil them all."""
    with pytest.raises(ValidationError, match="less than or equal"):
        Finish(pid="p", fence=1, worker_id="w1", outcome=Outcome.FAILED, **wish)  # type: ignore[arg-type]
