"""What the resources work with, in one object."""

from dataclasses import dataclass

from gateway.catalogue import TaskCatalogue
from gateway.ledger import Ledger
from gateway.links import Links
from gateway.metrics import Metrics
from gateway.swagger import SwaggerDocument


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """One per application."""

    ledger: Ledger
    catalogue: TaskCatalogue
    links: Links
    metrics: Metrics
    document: SwaggerDocument
    max_body_bytes: int
