"""The one logger set-up: structlog, JSON in production, readable on a terminal."""

import logging
import sys
from typing import cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

NOISY = {
    "pika": logging.CRITICAL,  # seven lines for each failed connection; contracts.broker says it in one
    "pymongo": logging.WARNING,
    "amqp": logging.WARNING,
    "kombu": logging.WARNING,
}


def configure(*, level: str, fmt: str, service: str) -> None:
    """Send structlog and the standard library's loggers to stderr in the same form, once per process."""

    def name_service(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        name_service,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if fmt == "console"
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy, least in NOISY.items():
        logging.getLogger(noisy).setLevel(max(least, logging.getLevelName(level)))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=True,
    )


def logger(name: str) -> FilteringBoundLogger:
    """A logger; say ``log.info("sentence", action="verb_noun", pid=…)``."""
    return cast("FilteringBoundLogger", structlog.get_logger(name))
