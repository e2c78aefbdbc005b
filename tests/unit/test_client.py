"""The decisions of the client that need no service."""

from pathlib import Path

import httpx
import pytest

from client.api import _retry_after
from client.arguments import BadArgument, params_from
from client.errors import ApiError, NotFound, ValidationFailed, from_answer
from client.progress import describe

SCHEMA = {
    "properties": {
        "name": {"type": "string"},
        "weight_kg": {"type": "number"},
        "fasta": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "operation": {"$ref": "#/$defs/Operation"},
        "deep": {"type": "boolean"},
    },
    "$defs": {"Operation": {"enum": ["sum", "mul"]}},
}


def test_text_stays_text_and_the_rest_is_json():
    """A name made of digits is a name, a weight is a number, a choice is text, true is a boolean."""
    params = params_from(["name=70", "weight_kg=70", "operation=sum", "deep=true"], SCHEMA)
    assert params == {"name": "70", "weight_kg": 70, "operation": "sum", "deep": True}


def test_only_the_first_equals_sign_counts():
    """A value may contain an equals sign."""
    assert params_from(["name=a=b"], SCHEMA) == {"name": "a=b"}


def test_at_sign_reads_a_file(tmp_path: Path):
    """name=@file is the content of the file."""
    (tmp_path / "two.fasta").write_text(">a\nMV\n")
    assert params_from([f"fasta=@{tmp_path}/two.fasta"], SCHEMA) == {"fasta": ">a\nMV\n"}


@pytest.mark.parametrize("argument", ["name", "=70", "weight_kg=heavy", "fasta=@/there/is/no/such/file"])
def test_an_argument_that_makes_no_sense_is_said(argument: str):
    """What cannot be read as a param is refused with a sentence about it."""
    with pytest.raises(BadArgument):
        params_from([argument], SCHEMA)


def test_a_problem_document_becomes_its_own_class():
    """The type of a problem chooses the exception, and its faults are in the message."""
    document = {
        "type": "http://x/problems/validation",
        "detail": "The submission is not valid.",
        "errors": [{"pointer": "/params/weight_kg", "detail": "has to be above 0"}],
    }
    error = from_answer(400, document)
    assert isinstance(error, ValidationFailed)
    assert "/params/weight_kg: has to be above 0" in str(error)
    assert isinstance(from_answer(404, {"type": "/problems/not-found"}), NotFound)


def test_an_answer_that_is_no_problem_document_is_an_error_all_the_same():
    """A proxy's error page has a status and nothing else."""
    error = from_answer(502, {})
    assert type(error) is ApiError
    assert (error.status, str(error)) == (502, "HTTP status 502")


@pytest.mark.parametrize(("header", "seconds"), [("3", 3.0), ("", 0.5), ("soon", 0.5), ("-1", 0.5), ("²", 0.5)])
def test_retry_after_is_honoured_if_it_is_a_number(header: str, seconds: float):
    """Only whole seconds count; anything else leaves our own pause."""
    assert _retry_after(httpx.Response(503, headers={b"Retry-After": header.encode()}), 0.5) == seconds


def test_progress_in_a_few_words():
    """Status, percent, stage and message are named if they are there."""
    progress = {"percent": 41.7, "stage": "aligning", "message": "3 pairs"}
    assert describe({"status": "running", "progress": progress}) == "running 42% aligning 3 pairs"
    assert describe({"status": "pending", "progress": None, "queue_position": 2}) == "pending (place 2 in the queue)"
