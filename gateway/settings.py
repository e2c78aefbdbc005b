"""What the gateway reads from the environment."""

from typing import Annotated

from pydantic import AnyHttpUrl, BeforeValidator, Field

from contracts.settings import ServiceSettings


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


class GatewaySettings(ServiceSettings):
    """Settings of the gateway."""

    listen_host: str = "127.0.0.1"
    """The address to listen on; loopback unless told otherwise."""
    port: int = Field(default=8000, ge=1, le=65535)
    """The port to listen on."""
    public_url: Annotated[AnyHttpUrl | None, BeforeValidator(_none_if_empty)] = None
    """Where users reach the gateway, for links in answers; without it they follow the request's host."""
    gateway_processes: int = Field(default=1, ge=1, le=64)
    """Worker processes of gunicorn; `/metrics` speaks for the one that answers."""
    gateway_threads: int = Field(default=32, ge=1, le=1024)
    """Requests that one process serves at the same time."""
    graceful_timeout_seconds: int = Field(default=10, ge=1, le=300)
    """Seconds that requests in flight get to end after SIGTERM."""
    max_body_bytes: int = Field(default=1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    """The largest body of a submission; above it is 413."""
    rpc_timeout_seconds: float = Field(default=1.8, gt=0, le=1.9)
    """Seconds that one request may spend waiting for the results service before it is answered 503."""
    catalogue_refresh_seconds: float = Field(default=30.0, ge=1, le=3600)
    """Seconds after which the catalogue is read again even if no event said that it changed."""

    @property
    def base_url(self) -> str | None:
        """`public_url` as text without a slash at its end."""
        return None if self.public_url is None else str(self.public_url).rstrip("/")
