"""Coatcheck from a program or a terminal: a client library and a command line over HTTP."""

from client.api import Coatcheck
from client.errors import ApiError, ClientError

__all__ = ["ApiError", "ClientError", "Coatcheck"]
