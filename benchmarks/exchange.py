"""What one message exchange costs through real processes: SuperLink, proxy, SuperNodes, executors, three sites.

    python benchmarks/exchange.py [FOLDER] [--exchanges 20] [--megabytes 1]

A site answers at once with the same bytes backwards (Flower sends no bytes twice), so all that is timed is the wire.
The split is as the coordinator's ServerApp sees it: push (messages handed to the SuperLink), wait (until the SuperLink
offers the last site's answer), pull (contents fetched; a site's is fetched while others still work).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedloupe_server.federation.exchange import ask_once
from fedloupe_server.hub.deployment import deployment
from fedloupe_server.hub.grid import GridExchange, hasten
from fedloupe_server.hub.job import read_job

APP = Path(__file__).parents[1] / "configs" / "app"

SITES = ("north", "south", "west")
SITE = """
import sys
from pathlib import Path
from fedloupe_client.site.server import desk_of, serve

serve(desk_of(lambda blob: blob[::-1]), Path(sys.argv[1])).wait()
"""
STUDY = {
    "study": "exchange",
    "title": "Synthetic: nothing but the wire",
    "synthetic": True,
    "endpoint": {"name": "response", "column": "y", "positive": ["1"], "negative": ["0"]},
    "sites": [{"name": name, "role": "train"} for name in SITES],
    "radiomics": {"source": "table"},
}


app = ServerApp()


@app.main()
def ask(grid: Grid, context: Context) -> None:
    """The coordinator's part, in the ServerApp's own process: ask all sites so many times."""
    work = Path(str(context.run_config["work"]))
    exchanges, size = (int(part) for part in str(context.run_config["study"]).split("/")[-1].split("x"))
    hasten()
    with (work / "progress.log").open("a", encoding="utf-8") as log:
        exchange = GridExchange(grid, read_job(work).table, observer=lambda line: print(line, file=log))
        for _ in range(exchanges):
            blob = os.urandom(size)
            if any(reply != blob[::-1] for reply in ask_once(exchange, dict.fromkeys(SITES, blob), 60.0).values()):
                raise RuntimeError("a site's answer is not its question backwards")
    (work / "outcome.json").write_text('{"state": "completed"}', encoding="utf-8")


def bundle(folder: Path) -> Path:
    """FedLoupe's bundle with this file as its ServerApp; the ServerApp's process finds it on the import path."""
    folder.mkdir(parents=True, exist_ok=True)
    text = (APP / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text(text.replace("fedloupe_server.hub.app:app", "exchange:app"))
    (folder / "LICENSE").write_bytes((APP / "LICENSE").read_bytes())
    os.environ["PYTHONPATH"] = f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"
    return folder


def measure(folder: Path, exchanges: int, size: int) -> list[dict[str, float]]:
    """Seconds of push, wait, pull and all of each exchange."""
    script = folder / "site.py"
    script.write_text(SITE, encoding="utf-8")
    told: list[str] = []
    study = folder / "study.json"
    study.write_text(json.dumps(STUDY), encoding="utf-8")
    with deployment(
        study,
        {name: folder / name for name in SITES},
        folder / "work",
        site_command=lambda _, socket: [sys.executable, str(script), str(socket)],
        progress=print,
        app=bundle(folder / "bundle"),
    ) as federation:
        job = Path(f"{exchanges}x{size}")  # rides where a study's path would
        federation.run("study", job, folder / "run", timeout_s=60.0 + 20.0 * exchanges, progress=told.append)
    line = re.compile(r"asked 3, answered 3, ([\d.]+) s \(push ([\d.]+), wait ([\d.]+), pull ([\d.]+)\)")
    found = [match for text in told if (match := line.search(text))]
    return [dict(zip(("all", "push", "wait", "pull"), map(float, m.groups()), strict=True)) for m in found]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "folder", type=Path, nargs="?", help="for keys, logs and database; a temporary one if not given"
    )
    parser.add_argument("--exchanges", type=int, default=20)
    parser.add_argument("--megabytes", type=float, default=1.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fedloupe-exchange-") as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        times = measure(folder, given.exchanges, int(given.megabytes * 1e6))
    print(f"{len(times)} of {given.exchanges} exchanges of {given.megabytes:g} MB with {len(SITES)} hospitals; seconds")
    print("part    first  median     max")
    for part in ("push", "wait", "pull", "all"):
        values = [one[part] for one in times]
        print(f"{part:5} {values[0]:7.2f} {statistics.median(values):7.2f} {max(values):7.2f}")


if __name__ == "__main__":
    main()
