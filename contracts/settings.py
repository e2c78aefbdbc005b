"""Settings from the environment, one class per service; these are what every service has."""

from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

S = TypeVar("S", bound="ServiceSettings")


class ServiceSettings(BaseSettings):
    """What every service reads. Names are those of the fields in upper case."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    amqp_uri: SecretStr = Field(default=SecretStr("amqp://guest:guest@127.0.0.1:5672/%2F"))
    """RabbitMQ. With its password, so it never appears in a log."""
    heartbeat: int = Field(default=60, ge=1, le=600)
    """Seconds after which RabbitMQ and a service give up a silent AMQP connection."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Lines below this level are not written."""
    log_format: Literal["console", "json"] = "json"
    """``console`` is for a terminal, ``json`` for machines: one object a line."""


def load(kind: type[S]) -> S:
    """Read *kind* from the environment; exits with one sentence per fault, naming the variable."""
    try:
        return kind()
    except ValidationError as error:
        faults = "\n".join(
            f"  {'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}"
            for fault in error.errors(include_input=False)
        )
        msg = f"The environment has settings that cannot work:\n{faults}"
        raise SystemExit(msg) from None
