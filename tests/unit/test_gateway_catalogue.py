from typing import Any

import pytest
from gateway_ledger import AWAY, BMI, MEETING, MemoryLedger

from contracts.errors import NotFound, Unavailable
from gateway.catalogue import TaskCatalogue


class OwnTime:
    """A clock that a test moves."""

    seconds = 0.0

    def monotonic(self) -> float:
        """Now."""
        return self.seconds


@pytest.fixture
def clock():
    return OwnTime()


@pytest.fixture
def ledger():
    return MemoryLedger(BMI)


@pytest.fixture
def catalogue(ledger: MemoryLedger, clock: OwnTime):
    return TaskCatalogue(ledger.catalogue, clock=clock, refresh_seconds=30)


def test_it_is_read_once(catalogue: TaskCatalogue, ledger: MemoryLedger):
    """Known tasks cost no further reading."""
    assert [catalogue.task("bmi").entry for _ in range(3)] == [BMI] * 3
    assert ledger.catalogue_reads == 1


def test_an_unknown_task_makes_it_read_again(catalogue: TaskCatalogue, ledger: MemoryLedger, clock: OwnTime):
    """A task that was announced a moment ago is found without waiting for the next refresh."""
    catalogue.offers()
    clock.seconds += 1
    ledger.tasks.append(MEETING)
    assert catalogue.task("meeting").entry == MEETING


def test_unknown_tasks_cannot_cause_more_than_one_reading_a_second(
    catalogue: TaskCatalogue, ledger: MemoryLedger, clock: OwnTime
):
    """Guessing names does not become load on the results service."""
    for _ in range(20):
        with pytest.raises(NotFound):
            catalogue.task("nothing")
        clock.seconds += 0.1
    assert ledger.catalogue_reads <= 3


def test_an_old_catalogue_serves_while_the_service_is_away(
    catalogue: TaskCatalogue, ledger: MemoryLedger, clock: OwnTime
):
    """Known tasks stay known; of an unknown one it is honest that nobody can say."""
    catalogue.offers()
    ledger.trouble["catalogue"] = AWAY
    clock.seconds += 60
    assert catalogue.task("bmi").entry == BMI
    with pytest.raises(Unavailable):
        catalogue.task("meeting")


def test_without_any_catalogue_it_says_why(catalogue: TaskCatalogue, ledger: MemoryLedger):
    """A gateway that never read a catalogue answers 503, not 404."""
    ledger.trouble["catalogue"] = AWAY
    with pytest.raises(Unavailable, match="MongoDB is away"):
        catalogue.task("bmi")


def test_validators_are_compiled_once_per_schema(catalogue: TaskCatalogue, ledger: MemoryLedger, clock: OwnTime):
    """Another reading keeps the compiled validator, unless the schema is another one."""
    before = catalogue.task("bmi").params
    clock.seconds += 1
    ledger.tasks.append(MEETING)
    catalogue.task("meeting")
    assert catalogue.task("bmi").params is before
    clock.seconds += 1
    ledger.tasks[:] = [BMI.model_copy(update={"params_schema": {"type": "object"}})]
    with pytest.raises(NotFound):
        catalogue.task("nothing")
    assert catalogue.task("bmi").params is not before


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"$ref": "http://127.0.0.1:9/schema.json"}])
def test_a_broken_schema_hides_its_task_only(catalogue: TaskCatalogue, ledger: MemoryLedger, schema: dict[str, Any]):
    """A schema that does not compile, or that would have to be fetched, does not take the others along."""
    ledger.tasks.append(MEETING.model_copy(update={"params_schema": schema}))
    assert list(catalogue.offers().by_name) == ["bmi"]
