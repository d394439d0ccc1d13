"""Seventy simulated hospitals, twenty rounds: does it end, and what do memory and a round cost? Against seven.

    python benchmarks/many_sites.py [--sites 70] [--rounds 20] [--folder DIR]

Real sites with homes, gates and SYNTHETIC tables of 24 patients, secure sums over all of them, signed requests;
messages pass through Flower's in-process Grid. Sites work in two processes beside the coordinator's, whose own peak
memory is what is reported for it.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.drill.studies import drill_study, drill_tables  # noqa: E402

from fedloupe_server.simulation.local import run_here  # noqa: E402 - the repository's root had to be found first
from fedloupe_server.simulation.sites import make_homes  # noqa: E402

PATIENTS = 24


def main() -> None:
    """Run few and many sites, each in a process of its own, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--sites", type=int, default=70)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one", type=int, help="run so many sites in this process, and print JSON")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="many-"))
    if given.one:
        print(json.dumps(run(given.one, given.rounds, folder)))
        return
    print("sites  rounds  whole s  first round s  a round s  longest s  coordinator MiB  a site's process MiB")
    for sites in (max(3, given.sites // 10), given.sites):
        place = folder / str(sites)
        shutil.rmtree(place, ignore_errors=True)
        command = [sys.executable, __file__, "--one", str(sites), "--rounds", str(given.rounds), "--folder", str(place)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{sites:5}  {found['rounds']:6}  {found['whole']:7.1f}  {found['first']:13.2f}  {found['round']:9.2f}  "
            f"{found['longest']:9.2f}  {found['coordinator']:15.0f}  {found['site']:20.0f}",
            flush=True,
        )


def run(count: int, rounds: int, folder: Path) -> dict[str, float]:
    """Seconds and MiB of one run."""
    sites = {f"site-{number:02d}": PATIENTS for number in range(count)}
    tables = drill_tables(folder / "tables", sites)
    presence = {"must": [], "minimum": count, "timeout_s": 3600}
    study = drill_study(rounds, 1, sites, quorum=presence, split={"test": 0.25, "tune": 0.25})
    homes = dict(make_homes(study, tables / "sites.yaml", tables, folder / "homes"))
    began = time.monotonic()
    outcome = run_here(study, homes, folder / "runs" / "run", tell=lambda *_: None, workers=2)
    whole, files = time.monotonic() - began, folder / "runs" / "run" / "rounds"
    times = [
        (files / f"{number:04d}.json").stat().st_mtime - (files / f"{number:04d}.intent.json").stat().st_mtime
        for number in range(1, rounds + 1)
    ]
    return {
        "rounds": len(outcome.results.rounds),
        "whole": whole,
        "first": times[0],
        "round": statistics.median(times[1:]),
        "longest": max(times),
        "coordinator": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "site": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
