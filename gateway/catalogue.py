"""What tasks there are: the results service's catalogue, cached with compiled validators."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from contracts.catalogue import CatalogueEntry
from contracts.clock import Clock
from contracts.errors import CoatcheckError, NotFound, Unavailable
from contracts.logs import logger
from contracts.messages import Catalogue
from gateway.validation import ParamsValidator

log = logger(__name__)

ASK_AGAIN_SECONDS = 1.0
"""Requests may cause one reading of the catalogue in this time."""
CLOSE_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """One task that can be submitted."""

    entry: CatalogueEntry
    params: ParamsValidator


@dataclass(frozen=True, kw_only=True, slots=True)
class Offers:
    """The catalogue at one moment, by name of task."""

    version: str
    by_name: dict[str, Offer]


class TaskCatalogue:
    """The newest catalogue that could be read; an old one serves while the results service is away.

    *fetch* reads it and raises a `CoatcheckError`, or `ValueError` for what it does not understand.
    """

    def __init__(self, fetch: Callable[[], Catalogue], *, clock: Clock, refresh_seconds: float) -> None:
        self._fetch = fetch
        self._clock = clock
        self._refresh_seconds = refresh_seconds
        self._offers: Offers | None = None
        self._trouble: str | None = None
        """Why the last reading failed."""
        self._asked_at = float("-inf")
        self._reading = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._keep_fresh, name="catalogue", daemon=True)

    def start(self) -> None:
        """Keep the catalogue fresh in the background: on `changed`, and every so often."""
        self._thread.start()

    def close(self) -> None:
        """End the background thread."""
        self._closing = True
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)

    def changed(self) -> None:
        """Somebody said that the catalogue changed; returns at once."""
        self._wake.set()

    def offers(self) -> Offers:
        """Every task; raises `Unavailable` if the catalogue was never read and cannot be now."""
        if self._offers is None:
            self._ask()
        if self._offers is None:
            raise Unavailable(self._trouble)
        return self._offers

    def task(self, name: str) -> Offer:
        """One task. An unknown name makes it read the catalogue again before it raises `NotFound`.

        Raises `Unavailable` if that reading failed: then the task may exist.
        """
        offer = self.offers().by_name.get(name)
        if offer is None:
            self._ask()
            offer = self.offers().by_name.get(name)
        if offer is None:
            if self._trouble is not None:
                raise Unavailable(self._trouble)
            raise NotFound(f"There is no task named {name[:64]!r}.")
        return offer

    def _ask(self) -> None:
        """Read the catalogue on behalf of a request, unless somebody has just done so."""
        asked_at = self._clock.monotonic()
        with self._reading:
            if asked_at - self._asked_at >= ASK_AGAIN_SECONDS:
                self._read()

    def _read(self) -> bool:
        try:
            catalogue = self._fetch()
        except (CoatcheckError, ValueError) as error:
            if self._trouble is None:
                log.warning("The catalogue cannot be read.", action="catalogue_unread", why=str(error))
            self._trouble = str(error)
        else:
            self._trouble = None
            self._take(catalogue)
        finally:
            self._asked_at = self._clock.monotonic()
        return self._trouble is None

    def _take(self, catalogue: Catalogue) -> None:
        known = self._offers
        by_name: dict[str, Offer] = {}
        for entry in catalogue.tasks:
            before = known.by_name.get(entry.name) if known else None
            if before is not None and before.entry.params_schema == entry.params_schema:
                params = before.params
            else:
                try:
                    params = ParamsValidator(entry.params_schema)
                except ValueError as error:
                    log.warning(
                        "A task is not offered: its schema is broken.",
                        action="schema_broken",
                        task=entry.name,
                        why=str(error),
                    )
                    continue
            by_name[entry.name] = Offer(entry=entry, params=params)
        if known is None or known.version != catalogue.version:
            log.info("The catalogue changed.", action="catalogue_read", version=catalogue.version, tasks=len(by_name))
        self._offers = Offers(version=catalogue.version, by_name=by_name)

    def _keep_fresh(self) -> None:
        wait = ASK_AGAIN_SECONDS
        while not self._closing:
            self._wake.wait(wait)
            self._wake.clear()
            if self._closing:
                return
            with self._reading:
                fresh = self._read()
            wait = self._refresh_seconds if fresh else min(wait * 2, self._refresh_seconds)
