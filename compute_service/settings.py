"""Settings of the compute service."""

import os

from pydantic import Field

from contracts.catalogue import POOL_NAME
from contracts.settings import ServiceSettings


class ComputeSettings(ServiceSettings):
    """Read from the environment; durations are in seconds."""

    pool: str = Field(default="default", pattern=POOL_NAME)
    """The pool whose jobs this worker runs."""
    slots: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=256)
    """Jobs that run at the same time, each in a process of its own. Default: one per processor."""
    claim_ahead: int = Field(default=8, ge=0, le=64)
    """Jobs per slot that are claimed ahead while jobs are short (50 ms), so that no slot waits for the ledger."""
    task_modules: str = "compute_service.tasks"
    """Python modules with tasks, separated by commas; installed packages may offer more."""
    worker_heartbeat_seconds: float = Field(default=3.0, gt=0, le=60)
    """Between two heartbeats of this worker to the ledger."""
    cancel_grace_seconds: float = Field(default=5.0, ge=0, le=600)
    """Between the signal that asks a job to end (cancelled, or out of time) and the kill."""
    drain_seconds: float = Field(default=10.0, ge=0, le=86400)
    """How long a worker that stops waits for its running jobs before it hands them back."""
    hand_back_seconds: float = Field(default=5.0, gt=0, le=600)
    """How long a worker that stops tries to report the jobs it hands back."""
    child_start_seconds: float = Field(default=60.0, gt=0, le=3600)
    """How long a child may take to import the task modules."""
    child_max_jobs: int = Field(default=10_000, ge=1)
    """Jobs after which a child is replaced."""
    child_max_rss_mb: int = Field(default=512, ge=64)
    """Resident memory in MiB above which a child is replaced after its job."""
    memory_poll_seconds: float = Field(default=0.5, gt=0, le=60)
    """Between two looks at the memory of a running job that has a memory limit."""
    ledger_timeout_seconds: float = Field(default=5.0, gt=0, le=60)
    """How long to wait for one answer of the ledger before asking again."""
