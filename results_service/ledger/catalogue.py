"""The tasks that are accepted: announced by workers, kept here, read by gateways."""

import hashlib
import re
from datetime import timedelta
from typing import Any

from pymongo import UpdateOne

from contracts import codec
from contracts.catalogue import CatalogueEntry, TaskDescriptor
from contracts.clock import Clock
from contracts.messages import Announcement, Catalogue
from results_service.ledger.database import Database
from results_service.ledger.events import Events
from results_service.settings import ResultsSettings


class CatalogueKeeper:
    """One document per task and version."""

    def __init__(self, database: Database, clock: Clock, settings: ResultsSettings, events: Events) -> None:
        self._tasks = database.tasks
        self._workers = database.workers
        self._clock = clock
        self._settings = settings
        self._events = events

    def announce(self, announcement: Announcement) -> None:
        """Remember what a worker can run; gateways are told."""
        now = self._clock.now()
        self._tasks.bulk_write(
            [
                UpdateOne(
                    {"_id": f"{task.name}@{task.version}"},
                    # As text: a JSON Schema is full of member names that mean something to MongoDB.
                    {
                        "$set": {
                            "name": task.name,
                            "descriptor": codec.dumps(task.model_dump()).decode(),
                            "seen_at": now,
                        }
                    },
                    upsert=True,
                )
                for task in announcement.tasks
            ],
            ordered=False,
        )
        self._events.catalogue_changed()

    def read(self) -> Catalogue:
        """Every task in its newest version, and whether somebody serves it now."""
        now = self._clock.now()
        seen = now - timedelta(days=self._settings.task_memory_days)
        alive = now - timedelta(seconds=self._settings.lease_seconds)
        served = {
            task
            for worker in self._workers.find({"seen_at": {"$gte": alive}}, {"tasks": 1})
            for task in worker["tasks"]
        }
        newest: dict[str, TaskDescriptor] = {}
        for document in self._tasks.find({"seen_at": {"$gte": seen}}):
            task = TaskDescriptor.model_validate(codec.loads(document["descriptor"]))
            if task.name not in newest or _version_key(task.version) > _version_key(newest[task.name].version):
                newest[task.name] = task
        entries = [CatalogueEntry(**task.model_dump(), serving=name in served) for name, task in sorted(newest.items())]
        content = codec.dumps([entry.model_dump() for entry in entries])
        return Catalogue(version=hashlib.sha256(content).hexdigest()[:16], tasks=entries)

    def still_served(self) -> None:
        """Keep alive what live workers serve; part of the sweep."""
        now = self._clock.now()
        alive = now - timedelta(seconds=self._settings.lease_seconds)
        names = sorted(
            {task for worker in self._workers.find({"seen_at": {"$gte": alive}}) for task in worker["tasks"]}
        )
        self._tasks.update_many({"name": {"$in": names}}, {"$set": {"seen_at": now}})


def _version_key(version: str) -> list[tuple[int, Any]]:
    """Sorts 1.10 behind 1.9, and text before numbers."""
    return [(1, int(part)) if part.isdigit() else (0, part) for part in re.split(r"[.\-+]", version)]
