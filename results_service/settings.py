"""Settings of the results service."""

from pydantic import Field, SecretStr

from contracts.job import MAX_RETENTION_DAYS
from contracts.settings import ServiceSettings


class ResultsSettings(ServiceSettings):
    """What the results service reads from the environment."""

    mongodb_uri: SecretStr = SecretStr("mongodb://127.0.0.1:27017/?replicaSet=rs0")
    """MongoDB, a replica set (majority writes need one)."""
    database: str = "coatcheck"
    """The database that holds the ledger."""
    mongodb_timeout_seconds: float = Field(default=1.5, gt=0)
    """How long one operation on the ledger may take, retries included."""
    batch_size: int = Field(default=256, ge=1, le=1000)
    """Requests of one kind that are served together at most."""
    lease_seconds: float = Field(default=15, gt=0)
    """A worker whose heartbeat stands still for so long is given up."""
    sweep_seconds: float = Field(default=5, gt=0)
    """The longest pause between two sweeps; a fifth of the lease if that is less."""
    retention_days: float = Field(default=30, gt=0, le=MAX_RETENTION_DAYS)
    """How long an ended job is kept, unless its task or its submission says otherwise."""
    idempotency_hours: float = Field(default=24, gt=0)
    """How long an idempotency key is remembered."""
    priority_step_seconds: float = Field(default=600, ge=0)
    """Ageing: a job passes one of the next higher priority that became due so much later."""
    first_retry_seconds: float = Field(default=1, ge=0)
    """Back-off before the second attempt, doubled before each further one, unless the task says otherwise."""
    last_retry_seconds: float = Field(default=300, ge=0)
    """The longest back-off between two attempts, unless the task says otherwise."""
    task_memory_days: float = Field(default=7, gt=0)
    """A task that no worker has announced for so long is no longer accepted."""
    metrics_host: str = "127.0.0.1"
    """The address at which Prometheus finds the numbers of this process; loopback unless told otherwise."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """The port for them; 0: none."""
