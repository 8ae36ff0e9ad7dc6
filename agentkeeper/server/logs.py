"""Structured logs on standard error: plain on a terminal, JSON lines otherwise."""

from __future__ import annotations

import logging
import sys

import structlog
from aiohttp.http_exceptions import HttpProcessingError


def configure(level: str, style: str) -> None:
    """Send all logs, those of libraries included, to standard error in one style."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    as_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    if as_json:
        shared.append(structlog.processors.format_exc_info)
        renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for noisy in ("pysyncobj", "aiohttp", "asyncio", "grpc"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # What our handlers raise they log themselves. What is left there are complaints about what
    # callers send: one line each, so that nobody can fill the log with traces.
    logging.getLogger("grpc._cython.cygrpc").addFilter(_shorten)
    logging.getLogger("aiohttp.server").addFilter(_shorten_bad_requests)


def _shorten(record: logging.LogRecord) -> bool:
    record.exc_info = None
    record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def _shorten_bad_requests(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return _shorten(record) if isinstance(error, HttpProcessingError) else True
