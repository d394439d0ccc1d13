"""`python -m fedloupe_client.courier`: approve a bundle, run the supervised courier.

    python -m fedloupe_client.courier approve fedloupe.fab --home flower-home
    python -m fedloupe_client.courier start --coordinator host:443 --authority ca.crt --key courier.key \
        --socket /run/fedloupe/site.sock --home flower-home --state courier
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from fedloupe.errors import FedLoupeError
from fedloupe.logs import set_up
from fedloupe_client.courier.approved import prepare
from fedloupe_client.courier.service import Courier


def main() -> None:
    """Parse and run one of the two commands; `start` runs until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="fedloupe_client.courier", description="FedLoupe's courier at a hospital.")
    commands = parser.add_subparsers(dest="command", required=True)
    approve = commands.add_parser("approve", help="make a read-only Flower home around one bundle")
    approve.add_argument("bundle", type=Path, help="the .fab file")
    approve.add_argument("--home", type=Path, required=True, help="folder to make")
    start = commands.add_parser("start", help="keep the hospital connected to the coordinator")
    start.add_argument("--coordinator", required=True, help="host:port of the coordinator's proxy")
    start.add_argument("--authority", type=Path, required=True, help="the coordinator's CA certificate (PEM)")
    start.add_argument("--key", type=Path, required=True, help="this hospital's private key")
    start.add_argument("--socket", type=Path, required=True, help="the site process's socket")
    start.add_argument("--home", type=Path, required=True, help="Flower home with the approved bundle")
    start.add_argument("--port", type=int, default=9094, help="loopback port between its two processes")
    start.add_argument("--state", type=Path, help="the courier's own folder; beside the Flower home if not given")
    start.add_argument("--log", choices=("words", "json"), default="json", help="one line an event on standard error")
    given = vars(parser.parse_args())
    if given.pop("command") == "approve":
        try:
            print(prepare(given["home"], given["bundle"]))
        except FedLoupeError as error:
            sys.exit(str(error))
        return
    set_up(given["log"])
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    given["state"] = (given["state"] or given["home"].absolute().parent).absolute()
    try:
        Courier(**given).start(stop)
    except FedLoupeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
