"""Finds the tasks: in the modules of a setting, and in those that installed packages offer."""

import importlib
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from types import ModuleType

from compute_service.definition import TaskDefinition
from compute_service.exceptions import TaskDefinitionError
from compute_service.sdk import MARK
from contracts.catalogue import TaskDescriptor

ENTRY_POINT_GROUP = "coatcheck.tasks"
DEFAULT_MODULES = "compute_service.tasks"


class Registry:
    """The tasks of one worker, by name."""

    def __init__(self, definitions: Iterable[TaskDefinition]) -> None:
        self._tasks: dict[str, TaskDefinition] = {}
        for definition in definitions:
            known = self._tasks.setdefault(definition.descriptor.name, definition)
            if known is not definition:
                here, there = known.function.__module__, definition.function.__module__
                raise TaskDefinitionError(f"Task {definition.descriptor.name!r} is defined in {here} and in {there}.")

    def get(self, name: str) -> TaskDefinition | None:
        """The task called *name*, if this worker has it."""
        return self._tasks.get(name)

    def descriptors(self) -> list[TaskDescriptor]:
        """What to announce, in order of names."""
        return [self._tasks[name].descriptor for name in sorted(self._tasks)]


def load(environ: Mapping[str, str] = os.environ) -> Registry:
    """Import every task module and collect its tasks.

    Raises `TaskDefinitionError` for a bad definition, a name that is taken, or a module that cannot
    be imported, naming it.
    """
    return Registry(definition for module in _modules(environ) for definition in _definitions(module))


def _modules(environ: Mapping[str, str]) -> Iterator[ModuleType]:
    configured = environ.get("TASK_MODULES", DEFAULT_MODULES).split(",")
    offered = [point.value for point in metadata.entry_points(group=ENTRY_POINT_GROUP)]
    for name in dict.fromkeys(stripped for name in [*configured, *offered] if (stripped := name.strip())):
        try:
            yield importlib.import_module(name)
        except TaskDefinitionError:
            raise
        except Exception as error:
            raise TaskDefinitionError(f"Task module {name!r} cannot be imported: {error!r}") from error


def _definitions(module: ModuleType) -> Iterator[TaskDefinition]:
    for member in list(vars(module).values()):
        definition = getattr(member, MARK, None)
        if isinstance(definition, TaskDefinition):
            yield definition
