"""Fail fast while a service is silent, so that waiting requests do not use up every thread."""

import threading
import time
from collections.abc import Callable


class Silence:
    """Notices that a service answers nobody, and lets one caller at a time find out when it does.

    A service is silent when a call was given up and nothing at all came back since it was sent.
    One slow call among answered ones is therefore no silence.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._silent = False
        self._probing = False
        self._heard = float("-inf")

    def admit(self) -> bool:
        """Whether a call may be made now; every admitted call ends in one of the methods below."""
        if not self._silent:
            return True
        with self._lock:
            if self._silent and self._probing:
                return False
            self._probing = self._silent
            return True

    def heard(self) -> None:
        """A reply came, be it a result or an error."""
        self._heard = self._monotonic()
        if self._silent:
            with self._lock:
                self._silent = self._probing = False

    def gave_up(self, sent_at: float) -> None:
        """A call that was made at *sent_at* (monotonic) got no reply."""
        with self._lock:
            self._probing = False
            self._silent = self._heard < sent_at

    def not_sent(self) -> None:
        """The call did not leave this process: nothing was learnt."""
        with self._lock:
            self._probing = False
