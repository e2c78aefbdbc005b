"""How much is measured: a full run, and a quick one that only shows that everything works."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """The sizes of all stages; kept with the results."""

    repetitions: int
    """Starts of each side; the sides take turns at going first."""
    slots: int = 2
    """Worker processes of each side in the comparison."""
    clients: int = 8
    """Connections that submit at the same time."""
    warm_up_jobs: int
    """Submitted before anything is measured."""
    jobs: int
    """For jobs per second and CPU per job."""
    sequential_jobs: int
    """For latency: one after another, each polled until its end."""
    poll_seconds: float = 0.001
    """Between two GETs of a job that has not ended."""
    rest_seconds: float
    """Nothing is submitted; then memory and CPU at rest are read."""
    burn_jobs: int
    burn_milliseconds: int = 50
    """CPU time of each of the burn jobs."""
    long_jobs: int = 4
    long_milliseconds: int
    """CPU time of each job that occupies a slot while the counter is asked."""
    heartbeat: int = 5
    """HEARTBEAT of the services meanwhile, in seconds."""
    rate: float = 50.0
    """Requests per second to the counter."""


FULL = Scale(
    repetitions=3,
    warm_up_jobs=200,
    jobs=2000,
    sequential_jobs=300,
    rest_seconds=5.0,
    burn_jobs=200,
    long_milliseconds=20_000,
)
QUICK = Scale(
    repetitions=1,
    warm_up_jobs=20,
    jobs=100,
    sequential_jobs=20,
    rest_seconds=1.0,
    burn_jobs=20,
    long_milliseconds=500,
)
