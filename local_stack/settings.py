"""What the local stack reads from the environment."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from contracts.settings import ServiceSettings


class StackSettings(ServiceSettings):
    """Settings of `make run`. Every other variable reaches the services as it is."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    local_dir: Path = Path(".local")
    """Folder of everything that the stack keeps: data, logs, mails, the password of its broker."""
    port: int = Field(default=8000, ge=1, le=65535)
    """The port of the gateway."""
    workers: int = Field(default=1, ge=1, le=16)
    """Compute services to run side by side, each with its own `SLOTS`."""
    restart_seconds: float = Field(default=30.0, gt=0, le=3600)
    """The longest pause before a program that ended by itself is started again."""
    amqp_uri: SecretStr | None = None  # type: ignore[assignment]  # here it may be missing
    """A RabbitMQ to use instead of a private one."""
    mongodb_uri: SecretStr | None = None
    """A MongoDB replica set to use instead of a private one."""
    smtp_uri: SecretStr | None = None
    """A mail server to use instead of the sink that keeps everything under `LOCAL_DIR`."""

    @field_validator("local_dir")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        return folder.expanduser().absolute()
