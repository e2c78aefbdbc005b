"""Absolute URLs for answers, made without Flask's router: they are on the hot path."""

from flask import request
from werkzeug.exceptions import HTTPException

from contracts.status import RETRYABLE

PREFIX = "/api/v1"


class Links:
    """URLs under *public_url*, or under the host that the request names."""

    def __init__(self, public_url: str | None) -> None:
        self._public_url = public_url

    def base(self) -> str:
        """The start of every URL; empty (so that URLs are relative to the root) if the host makes no sense."""
        if self._public_url is not None:
            return self._public_url
        try:
            return f"{request.scheme}://{request.host}" if request.host else ""
        except HTTPException:
            return ""

    def job(self, pid: str, status: str, base: str | None = None) -> dict[str, str]:
        """The links of a job in *status*; pass *base* to ask for it only once per list."""
        here = f"{self.base() if base is None else base}{PREFIX}/jobs/{pid}"
        links = {"self": here, "result": f"{here}/result", "cancel": f"{here}/cancel"}
        return {**links, "retry": f"{here}/retry"} if status in RETRYABLE else links

    def task(self, name: str, base: str) -> dict[str, str]:
        """The links of a task."""
        here = f"{base}{PREFIX}/tasks/{name}"
        return {"self": here, "submit": f"{here}/jobs"}

    def problem(self, name: str) -> str:
        """The page of a problem type."""
        return f"{self.base()}/problems/{name}"
