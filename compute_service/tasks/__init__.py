"""The tasks that come with Coatcheck."""

from compute_service.tasks.alignment import align_sequences
from compute_service.tasks.arithmetic import arithmetic
from compute_service.tasks.bmi import bmi
from compute_service.tasks.wait import wait

__all__ = ["align_sequences", "arithmetic", "bmi", "wait"]
