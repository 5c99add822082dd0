"""Logging for every service: one JSON object per line, to stderr."""

import contextlib
import logging
import sys
from collections.abc import Iterator

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from shared.errors import SignalboxError
from shared.sentences import MENDABLE, sentence_of


def configure_logging(service: str, level: int = logging.INFO) -> None:
    """Write one JSON object per line to stderr, with the values of `structlog.contextvars` (job_id, release, ...)."""

    def name_service(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        # Not a context variable, because threads start with an empty context.
        return {"service": service, **event}

    structlog.configure(
        processors=[
            name_service,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Without local variables, which hold passwords, keys and users' texts.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    _pass_on_library_logs(name_service)


@contextlib.contextmanager
def ends_with_a_sentence(service: str) -> Iterator[None]:
    """Log an error that ends a service as one line, and exit with status 1."""
    try:
        yield
    except (SignalboxError, *MENDABLE) as error:
        known = sentence_of(error)
        configure_logging(service)
        structlog.get_logger().critical("service_ends", code=known.code, error=known.detail)
        sys.exit(1)


def _pass_on_library_logs(name_service: Processor) -> None:
    """Write the warnings of libraries that use the standard logging module in the same form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processor=structlog.processors.JSONRenderer(ensure_ascii=False),
            foreign_pre_chain=[
                name_service,
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
