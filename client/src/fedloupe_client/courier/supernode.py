"""Flower's SuperNode under our eyes: the same program, with `courier.fleet` between it and the coordinator.

    python -m fedloupe_client.courier.supernode --report 3 --parent 4711 --home flower-home --state courier \
        -- --superlink HOST:443 ...

Where Flower's loop or one of its threads ends, `flower-supernode` stays, looks alive and answers health checks; here
the process ends, and the supervisor starts another.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from fedloupe.errors import FedLoupeError
from fedloupe_client.courier import internals as flower
from fedloupe_client.courier.fleet import Say, fleet_client
from fedloupe_client.courier.hand import Hand
from fedloupe_client.courier.tether import Report, own_log, tether

REPLY_POLL_S = 0.05
LOOP_LEFT, THREAD_DIED = 71, 72
_log = logging.getLogger("fedloupe_client.courier.supernode")


def install(hand: Hand, say: Say, home: Path) -> None:
    """Put our client, and shorter pauses, into Flower's SuperNode.

    Raises:
        FlowerChanged: there is no such place any more.
    """
    leaving = threading.Event()
    flower.add_exit_handler(leaving.set)
    flower.replace(flower.SUPERNODE_CONNECTION, "FleetHttpClient", fleet_client(hand, say, leaving, home))
    # Its loop looks for the site's answer, and for parts of it, every 0.5 s, in its own memory.
    quick = SimpleNamespace(**{**vars(time), "sleep": lambda s: time.sleep(min(s, REPLY_POLL_S))})
    flower.replace(flower.SUPERNODE_LOOP, "time", quick)


def main() -> None:
    """Run a SuperNode until SIGTERM; any end of its loop or of a thread is the end of the process."""
    parser = argparse.ArgumentParser(prog="fedloupe_client.courier.supernode")
    parser.add_argument("--report", type=int, required=True, help="file descriptor for reports")
    parser.add_argument("--parent", type=int, required=True, help="process id of the supervisor")
    parser.add_argument("--home", type=Path, required=True, help="the hospital's Flower home")
    parser.add_argument("--state", type=Path, required=True, help="the courier's folder")
    parser.add_argument("flower", nargs="+", help="options of flower-supernode")
    parser.add_argument("--log", choices=("words", "json"), default="words")
    given = parser.parse_args()
    own_log(given.log)
    report = tether(given.report, given.parent)
    install(Hand(given.state), report, given.home)
    threading.excepthook = _thread_died(report)
    sys.argv = ["flower-supernode", *given.flower]
    code: int | str | None = LOOP_LEFT
    try:
        flower.flower_supernode()  # returns when something ended its loop; its web server would stay
    except SystemExit as ended:
        code = ended.code
    except Exception:  # noqa: BLE001 - whatever it is, its web server must not live on
        _log.exception("the SuperNode failed")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _thread_died(report: Report) -> Callable[[threading.ExceptHookArgs], None]:
    def died(about: threading.ExceptHookArgs) -> None:
        if about.exc_type is SystemExit:
            return
        kind = about.exc_type, about.exc_value, about.exc_traceback
        _log.critical("a thread of the SuperNode died", exc_info=kind if about.exc_value is not None else None)  # type: ignore[arg-type]
        report("died")
        os._exit(THREAD_DIED)

    return died


if __name__ == "__main__":
    try:
        main()
    except FedLoupeError as error:
        sys.exit(str(error))
