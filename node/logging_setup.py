"""Where log lines go and how they look. Everything else only calls `structlog.get_logger()`."""

from __future__ import annotations

import logging
import sys
from logging.handlers import WatchedFileHandler
from typing import TYPE_CHECKING

import structlog

from horologe.node.config import NodeConfig
from horologe.node.recent_log import recent_log

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger


def configure(config: NodeConfig) -> None:
    """One line per event, as JSON or as text, to the log file or to standard error; lines of libraries included."""

    def add_node(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("node", config.name)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_node,
        structlog.processors.StackInfoRenderer(),
    ]
    final: list[Processor]
    if config.log_format == "json":
        final = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        colors = config.log_file is None and sys.stderr.isatty()
        # Plain: the other ways to show an exception show local variables too, whatever is in them.
        final = [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
    )
    handler = logging.StreamHandler(sys.stderr) if config.log_file is None else _file_handler(config)
    handler.setFormatter(formatter)
    recent_log.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.addHandler(recent_log)
    # It tells the whole address of each request, and that of a webhook is a secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    root.setLevel(config.log_level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _file_handler(config: NodeConfig) -> logging.Handler:
    assert config.log_file is not None
    config.log_file.parent.mkdir(parents=True, exist_ok=True)
    return WatchedFileHandler(config.log_file, encoding="utf-8")
