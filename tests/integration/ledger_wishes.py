"""What hypothesis may make up: submissions, reports, trips, failures, rivals."""

from hypothesis import strategies as st
from ledger_faults import Fault, How

from contracts.status import NotifyOn, Priority
from results_service.settings import ResultsSettings

MOST_JOBS = 8
MOST_AGAIN = 12
WORKERS = ("w1", "w2", "w3")
OWNERS = ("ada", "bob")
SETTINGS = ResultsSettings(
    first_retry_seconds=4,
    last_retry_seconds=10,
    lease_seconds=15,
    retention_days=0.5,  # shorter than a key is kept
    idempotency_hours=24,
    priority_step_seconds=600,
)

pick = st.integers(0, 15)
service = st.sampled_from((0, 1))
worker = st.sampled_from(WORKERS)
fault = st.one_of(st.none(), st.none(), st.builds(Fault, call=st.integers(0, 4), how=st.sampled_from(How)))
submission = st.fixed_dictionaries(
    {
        "owner": st.sampled_from(OWNERS),
        "task": st.sampled_from(("a", "a", "b")),
        "priority": st.sampled_from((Priority.NORMAL, Priority.NORMAL, Priority.HIGH, Priority.LOW)),
        "wait": st.sampled_from((None, None, None, None, -60, 10)),
        "max_attempts": st.sampled_from((3, 2, 1)),
        "retention_days": st.sampled_from((None, 0.2, 2)),
        "on": st.sampled_from((None, list(NotifyOn), [NotifyOn.SUCCEEDED, NotifyOn.CANCELLED])),
        "key": st.one_of(st.none(), st.tuples(st.just("k"), st.sampled_from("xxy"))),
        "shuffle": st.integers(0, 3),
        "twice": st.booleans(),
    }
)
report = st.fixed_dictionaries(
    {
        "pick": pick,
        "outcome": st.sampled_from(
            ("succeeded", "failed", "retriable", "after", "handed_back", "handed_back", "stopped")
        ),
        "of": st.sampled_from(("open", "open", "open", "late", "late", "any")),
    }
)
trip = st.fixed_dictionaries(
    {
        "worker": worker,
        "reports": st.lists(report, min_size=1, max_size=3),
        "claim": st.one_of(st.none(), st.integers(1, 3)),
        "tasks": st.sampled_from((("a", "b"), ("a", "b"), ("a",))),
        "heard": st.sampled_from((True, True, False)),
    }
)
ORDERS = ("cancel", "delete", "retry")
rival = st.sampled_from((None, None, None, "cancel", "delete", "same", "claim", "other"))
