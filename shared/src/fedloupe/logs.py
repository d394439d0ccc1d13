"""One line of a log an event, for people or for machines.

    set_up("json")
    _log = logging.getLogger(__name__)
    _log.warning("the SuperNode ended", extra={"said": {"code": 1, "next_s": 12}})
    # {"time": "2026-11-28T08:00:00.123+00:00", "level": "warning", "room": "fedloupe_client.courier", "event": ...}

`said` holds names and numbers of the event. No patient, no label, no value of one is ever logged at this level; a
site's logs stay at the site all the same.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import IO, Any, Literal

from fedloupe.errors import FedLoupeError

Form = Literal["words", "json"]


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Time (UTC, ISO 8601), level, room, event, then what was said, then an error's code and traceback."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "room": record.name,
            "event": record.getMessage(),
        }
        line |= {name: value for name, value in _said(record).items() if name not in line}
        if record.exc_info:
            if isinstance(record.exc_info[1], FedLoupeError):
                line["code"] = record.exc_info[1].code
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class Words(logging.Formatter):
    """A record as one line that a person reads."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, event, and what was said as `name=value`."""
        said = "".join(f" {name}={value}" for name, value in _said(record).items())
        return f"{super().format(record)}{said}"


def set_up(form: Form = "words", stream: IO[str] | None = None, level: int = logging.INFO) -> None:
    """Let every logger of this process write to one stream; what was set up before is replaced.

    Args:
        form: for people or for machines.
        stream: the standard error where None.
        level: of the least important line.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else Words("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(max(level, logging.WARNING))  # a line for each of its requests


def _said(record: logging.LogRecord) -> dict[str, Any]:
    said = getattr(record, "said", {})
    return said if isinstance(said, dict) else {}
