"""Log lines of the control plane: one JSON object per line, or a console format for people.

``configure`` is called once by each command; modules ask for ``logger("component")`` where they are
built. The level can change live. Never logged: keys, tokens, whole objects.
Specification: kubernetes-surface 8.6.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

import structlog
from structlog.stdlib import BoundLogger
from structlog.typing import EventDict, Processor, WrappedLogger

ROOT = "osm"
"""Name of the standard library's logger above all of ours."""
_OFF = logging.CRITICAL + 10
_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL,
    "disabled": _OFF,
}


def configure(
    *,
    level: str = "info",
    human: bool = False,
    stream: TextIO | None = None,
    count_error: Callable[[str], None] | None = None,
) -> None:
    """Log lines go to the stream (standard output by default), ours and those of libraries.

    ``count_error`` is told the ``error_code`` of each line that has one.
    """
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(_formatter(human=human, count_error=count_error))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    logging.getLogger(ROOT).setLevel(logging.INFO)
    set_level(level)


def set_level(level: str) -> bool:
    """Lines below the level are dropped from now on; False (and no change) for an unknown level."""
    number = _LEVELS.get(level.lower())
    if number is None:
        logger("logs").error("unknown log level", wanted=level, error_code="E1001")
        return False
    logging.getLogger(ROOT).setLevel(number)
    return True


def logger(component: str) -> BoundLogger:
    """The logger of a part of the control plane."""
    bound: BoundLogger = structlog.get_logger(f"{ROOT}.{component}")
    return bound


def _formatter(
    *, human: bool, count_error: Callable[[str], None] | None
) -> structlog.stdlib.ProcessorFormatter:
    def count(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        code = event.get("error_code")
        if count_error is not None and isinstance(code, str):
            count_error(code)
        return event

    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        _add_component,
        _add_time,
    ]
    last: list[Processor] = (
        # Not the default: it prints the variables of each frame, keys and tokens among them.
        [
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if human
        else [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(sort_keys=True),
        ]
    )
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[*shared, count, remove, *last],
    )


def _add_component(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["component"] = record.name.removeprefix(f"{ROOT}.")
    return event


def _add_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    now = datetime.now(tz=UTC).isoformat(timespec="milliseconds")
    event["time"] = now.replace("+00:00", "Z")
    return event
