import pytest
from werkzeug.datastructures import MultiDict

from contracts.errors import ValidationFailed
from contracts.ids import new_id
from contracts.status import JobStatus
from gateway.queries import LIST_PARAMETERS, decode_cursor, encode_cursor, job_query


def query(*pairs: tuple[str, str]):
    return job_query(MultiDict(pairs), allowed=LIST_PARAMETERS, owner="local")


def test_every_filter_arrives():
    """Each query parameter ends up in the query."""
    pid = new_id()
    found = query(
        ("status", "failed"),
        ("status", "cancelled"),
        ("task", "bmi"),
        ("tag", "x"),
        ("reference", "N-17"),
        ("created_after", "2030-01-01T00:00:00 01:00"),
        ("created_before", "2030-01-02T00:00:00Z"),
        ("limit", "7"),
        ("cursor", encode_cursor(pid)),
    )
    assert found.status == [JobStatus.FAILED, JobStatus.CANCELLED]
    assert (found.task, found.tag, found.reference, found.limit, found.after_pid) == ("bmi", "x", "N-17", 7, pid)
    assert found.created_after.isoformat() == "2029-12-31T23:00:00+00:00"
    assert found.created_before.isoformat() == "2030-01-02T00:00:00+00:00"


def test_defaults():
    """Without parameters it is a page of 50 of everything."""
    assert query().model_dump(exclude_defaults=True, exclude={"owner"}) == {}
    assert query().limit == 50


@pytest.mark.parametrize(
    "pair",
    [
        ("status", "done"),
        ("status", ""),
        ("limit", "0"),
        ("limit", "201"),
        ("limit", "-1"),
        ("limit", "1.5"),
        ("limit", "٣"),
        ("limit", "9" * 5000),
        ("cursor", ""),
        ("cursor", "x"),
        ("cursor", "é" * 22),
        ("created_after", "yesterday"),
        ("tag", ""),
        ("tag", "a" * 65),
        ("reference", "a" * 129),
        ("colour", "red"),
    ],
)
def test_bad_parameters_are_named(pair: tuple[str, str]):
    """A wrong or unknown parameter is refused by name."""
    with pytest.raises(ValidationFailed) as error:
        query(pair)
    assert error.value.members["errors"][0]["parameter"] == pair[0]


def test_a_parameter_given_twice_is_refused():
    """Only status may be repeated: which of two limits counts would be a guess."""
    with pytest.raises(ValidationFailed):
        query(("limit", "1"), ("limit", "2"))


def test_a_cursor_goes_there_and_back():
    """A cursor carries the pid it was made of, and does not show it."""
    pid = new_id()
    assert decode_cursor(encode_cursor(pid)) == pid
    assert pid not in encode_cursor(pid)
