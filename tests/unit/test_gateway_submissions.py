from typing import Any

import pytest
from gateway_ledger import BMI

from contracts import codec
from contracts.bounds import MAX_JSON_BYTES
from contracts.errors import TooLarge, ValidationFailed
from contracts.status import NotifyOn, Priority
from gateway.catalogue import Offer
from gateway.submissions import Submission, TaskSubmission, fingerprint, idempotency_key, new_job, parse
from gateway.validation import ParamsValidator

OFFER = Offer(entry=BMI, params=ParamsValidator(BMI.params_schema))


def body(**members: Any):
    return codec.dumps({"params": BMI.example, **members})


def job(**members: Any):
    return new_job(parse(TaskSubmission, body(**members)), OFFER, owner="local", key=None)


def pointers(error: Any):
    return [fault["pointer"] for fault in error.value.members["errors"]]


def refused(text: bytes, kind: type[TaskSubmission] = TaskSubmission):
    with pytest.raises(ValidationFailed) as error:
        parse(kind, text)
    return pointers(error)


def test_defaults_come_from_the_task():
    """What a submission leaves out is the task's: attempts, time limit, pool, version."""
    made = job()
    assert (made.max_attempts, made.time_limit, made.pool, made.task_version) == (3, 60, "default", "1")
    assert (made.priority, made.notify, made.not_before, made.tags) == (Priority.NORMAL, None, None, [])


def test_what_the_task_says_of_repetition_and_retention_goes_with_its_jobs():
    """Back-off and retention are the task's; a submission may choose another retention, shorter or longer."""
    said = {"first_retry_seconds": 0.5, "last_retry_seconds": 60.0, "retention_days": 7.0}
    offer = Offer(entry=BMI.model_copy(update=said), params=OFFER.params)
    made = new_job(parse(TaskSubmission, body()), offer, owner="local", key=None)
    assert (made.first_retry_seconds, made.last_retry_seconds, made.retention_days) == (0.5, 60, 7)
    made = new_job(parse(TaskSubmission, body(retention_days=90)), offer, owner="local", key=None)
    assert made.retention_days == 90
    assert (job().first_retry_seconds, job().last_retry_seconds, job().retention_days) == (None, None, None)


def test_every_option_arrives():
    """Each option of the API ends up in the job."""
    made = job(
        notify={"email": "Ada@Example.org"},
        reference="N-17",
        not_before="2030-01-31T09:00:00.1234+01:00",
        max_attempts=2,
        time_limit=5,
        retention_days=7,
        priority="high",
        tags=["a", "b"],
    )
    assert made.notify.email == "Ada@example.org"
    assert made.notify.on == [NotifyOn.SUCCEEDED, NotifyOn.FAILED, NotifyOn.CANCELLED]
    assert made.not_before.isoformat() == "2030-01-31T08:00:00.123000+00:00"
    assert (made.reference, made.max_attempts, made.time_limit, made.retention_days) == ("N-17", 2, 5, 7)
    assert (made.priority, made.tags) == (Priority.HIGH, ["a", "b"])


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"locks": "a"}, "/locks"),
        ({"locks": ["a", "a"]}, "/locks"),
        ({"locks": ["a", ""]}, "/locks/1"),
        ({"locks": ["é" * 129]}, "/locks/0"),
        ({"locks": [str(number) for number in range(257)]}, "/locks"),
        ({"on_conflict": "wait"}, "/on_conflict"),
        ({"notify": {"email": "a@example.org", "webhook": "https://x"}}, "/notify/webhook"),
        ({"notify": {"email": "nobody"}}, "/notify/email"),
        ({"notify": {"email": "a@example.org\nBcc: b@example.org"}}, "/notify/email"),
        ({"notify": {"email": "Ada <a@example.org>"}}, "/notify/email"),
        ({"notify": {"email": f"a@{'b.' * 200}org"}}, "/notify/email"),
        ({"notify": {}}, "/notify/email"),
        ({"notify": {"email": "a@example.org", "on": []}}, "/notify/on"),
        ({"notify": {"email": "a@example.org", "on": ["failed", "failed"]}}, "/notify/on"),
        ({"notify": {"email": "a@example.org", "on": ["sometimes"]}}, "/notify/on/0"),
        ({"not_before": "2030-01-31T08:00:00"}, "/not_before"),
        ({"not_before": "0001-01-01T00:00:00+10:00"}, "/not_before"),
        ({"not_before": "2030-02-31T08:00:00Z"}, "/not_before"),
        ({"not_before": 1900000000}, "/not_before"),
        ({"max_attempts": 0}, "/max_attempts"),
        ({"max_attempts": True}, "/max_attempts"),
        ({"max_attempts": "2"}, "/max_attempts"),
        ({"time_limit": 0}, "/time_limit"),
        ({"time_limit": "5"}, "/time_limit"),
        ({"retention_days": 0}, "/retention_days"),
        ({"retention_days": 3651}, "/retention_days"),
        ({"retention_days": "7"}, "/retention_days"),
        ({"priority": "urgent"}, "/priority"),
        ({"tags": ["a", "a"]}, "/tags"),
        ({"tags": [str(n) for n in range(17)]}, "/tags"),
        ({"tags": [""]}, "/tags/0"),
        ({"tags": ["a" * 65]}, "/tags/0"),
        ({"reference": "a" * 129}, "/reference"),
        ({"reference": 17}, "/reference"),
        ({"a/b~c": 1}, "/a~1b~0c"),
    ],
)
def test_bad_options_are_pointed_at(members: dict[str, Any], pointer: str):
    """A wrong or unknown option is refused with an RFC 6901 pointer to it."""
    assert refused(body(**members)) == [pointer]


@pytest.mark.parametrize(
    ("members", "pointer"), [({"max_attempts": 4}, "/max_attempts"), ({"time_limit": 60.5}, "/time_limit")]
)
def test_the_task_bounds_the_options(members: dict[str, Any], pointer: str):
    """A submission may ask for less than the task allows, never for more."""
    with pytest.raises(ValidationFailed) as error:
        job(**members)
    assert pointers(error) == [pointer]


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (b"", ""),
        (b"{", ""),
        (b"[]", ""),
        (b"null", ""),
        (b"\xff", ""),
        (b'{"params": {}, "params": {}}', ""),
        (b'{"params": {"weight_kg": NaN}}', ""),
        (b'{"params": {"weight_kg": ' + b"9" * 5000 + b"}}", ""),
        (b'{"params": {"weight_kg": 1e999}}', "/params/weight_kg"),
        (b'{"params": {"weight_kg": 9223372036854775808}}', "/params/weight_kg"),
        (b'{"params": {"name": "\\u0000"}}', "/params/name"),
        (b'{"params": {"name": "\\ud800"}}', "/params/name"),
        (b'{"params": {}, "reference": "\\ud800"}', "/reference"),
        (b"{}", "/params"),
        (b'{"params": []}', "/params"),
        (b"[" * 100_000, ""),
    ],
)
def test_bodies_that_are_no_submission(text: bytes, pointer: str):
    """Broken JSON, NaN, absurd numbers and what cannot be stored are refused, never a server error."""
    assert refused(text) == [pointer]


def test_params_may_nest_as_deep_as_the_ledger_allows():
    """64 levels in the params are the last that is taken; the body around them does not count."""
    nested = {}
    for _ in range(64):
        nested = {"a": nested}
    assert parse(TaskSubmission, codec.dumps({"params": nested})).params == nested
    assert len(refused(codec.dumps({"params": {"a": nested}}))) == 1


def test_params_are_bounded_in_bytes():
    """Params up to 256 KiB of JSON are taken; one byte more is too large."""
    room = MAX_JSON_BYTES - len(codec.dumps({"name": ""}))
    assert parse(TaskSubmission, codec.dumps({"params": {"name": "a" * room}}))
    with pytest.raises(TooLarge):
        parse(TaskSubmission, codec.dumps({"params": {"name": "a" * (room + 1)}}))


def test_params_are_validated_with_all_faults():
    """The task's schema is applied with every fault at its place, also for members that miss or surprise."""
    text = codec.dumps({"params": {"weight_kg": 0, "height_cm": "tall", "shoe/size": 1}})
    with pytest.raises(ValidationFailed) as error:
        new_job(parse(TaskSubmission, text), OFFER, owner="local", key=None)
    expected = {"/params/name", "/params/weight_kg", "/params/height_cm", "/params/shoe~1size"}
    assert set(pointers(error)) == expected


def test_faults_are_bounded():
    """An answer names at most 50 faults, each in few words."""
    text = codec.dumps({"params": {"x" * 1000 + str(n): n for n in range(200)}})
    with pytest.raises(ValidationFailed) as error:
        new_job(parse(TaskSubmission, text), OFFER, owner="local", key=None)
    assert len(pointers(error)) == 50
    long = codec.dumps({"params": {**BMI.example, "height_cm": "a" * 10_000}})
    with pytest.raises(ValidationFailed) as error:
        new_job(parse(TaskSubmission, long), OFFER, owner="local", key=None)
    assert len(error.value.members["errors"][0]["detail"]) <= 300


def test_any_task_is_named_in_the_body():
    """POST /jobs needs a task name of the right form."""
    assert parse(Submission, body(task="bmi")).task == "bmi"
    assert refused(body(), Submission) == ["/task"]
    assert refused(body(task="B M I"), Submission) == ["/task"]


@pytest.mark.parametrize(
    ("header", "key"), [(None, None), ("abc", "abc"), ('"abc"', "abc"), ('a"b', 'a"b'), ("~" * 255, "~" * 255)]
)
def test_idempotency_keys(header: str | None, key: str | None):
    """A key may be quoted or bare."""
    assert idempotency_key(header) == key


@pytest.mark.parametrize("header", ["", '""', "a b", "ä", "a" * 256, "\x7f"])
def test_bad_idempotency_keys(header: str | None):
    """A key is 1 to 255 visible ASCII characters."""
    with pytest.raises(ValidationFailed):
        idempotency_key(header)


def test_fingerprint_is_of_the_content():
    """The order of members and the way of submitting do not change a fingerprint; any value does."""
    one = parse(TaskSubmission, b'{"params": {"a": 1, "b": 2}, "tags": ["x"]}')
    same = parse(Submission, b'{"tags": ["x"], "params": {"b": 2, "a": 1}, "task": "bmi"}')
    other = parse(TaskSubmission, b'{"params": {"a": 1, "b": 2}, "tags": ["y"]}')
    assert fingerprint("bmi", one) == fingerprint("bmi", same)
    assert fingerprint("bmi", one) != fingerprint("bmi", other)
    assert fingerprint("bmi", one) != fingerprint("wait", one)
