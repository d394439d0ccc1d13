"""What federation costs beside the work: a deployed run whose rounds take two minutes of each hospital's time.

    python benchmarks/overhead.py [--rounds 20] [--work 120] [--sites 3] [--folder DIR]

Real processes throughout: the coordinator's service, SuperLink, proxy, couriers, gates, secure sums. A hospital trains
in earnest for a moment and then waits until its share of the round has taken `--work` seconds, so that a small machine
can play all hospitals at once; its progress is told meanwhile as in a long training. Work is what the sites' own audit
chains say, from a round's request admitted to its answer ready; a round's work is its slowest hospital's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.drill.field import Field  # noqa: E402 - the repository's root had to be found first
from tests.drill.studies import drill_study, drill_tables  # noqa: E402

SLOW = """
import sys, time
from fedloupe_client.site import training
from fedloupe_client.cli import app

work, real = float(sys.argv.pop(1)), training.train_round

def train_round(*args, **options):
    began, tell = time.monotonic(), options.get("tell")
    found = real(*args, **options)
    while (left := began + work - time.monotonic()) > 0:
        if tell is not None:
            tell(int(100 * (1 - left / work)), 100)
        time.sleep(min(1.0, left))
    return found

training.train_round = train_round
app()
"""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--work", type=float, default=120.0, help="seconds of a hospital's share of a round")
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="overhead-"))
    shutil.rmtree(folder, ignore_errors=True)
    sites = dict(list({"alpha": 60, "beta": 48, "gamma": 52, "delta": 44, "omega": 56}.items())[: given.sites])
    study = drill_study(given.rounds, 1, sites)
    script = folder / "slow_site.py"
    tables = drill_tables(folder / "tables", sites)
    script.write_text(SLOW, encoding="utf-8")
    with Field(study, tables, folder / "field") as field:
        field.site_program = (sys.executable, str(script), str(given.work))
        field.start()
        status = field.finished(given.rounds * (given.work + 60.0) + 300.0)
        if status.run != "completed":
            sys.exit(f"the run failed: {status.why}")
        say(field, given.rounds)


def say(field: Field, rounds: int) -> None:
    """The rounds' time against the work in them."""
    work = {number: max(times) for number, times in works(field).items()}
    files = field.run / "rounds"
    began = [(files / f"{number:04d}.intent.json").stat().st_mtime for number in range(1, rounds + 1)]
    ended = [(files / f"{number:04d}.json").stat().st_mtime for number in range(1, rounds + 1)]
    extra = [end - begin - work[n] for n, (begin, end) in enumerate(zip(began, ended, strict=True), start=1)]
    whole, worked = ended[-1] - began[0], sum(work.values())
    print(f"{rounds} rounds of {len(field.homes)} hospitals, secure sums")
    print(f"work          {worked:9.1f} s   (slowest hospital of each round)")
    print(f"rounds        {whole:9.1f} s   from the first announced to the last kept")
    print(f"ratio         {whole / worked:9.4f}")
    print(f"beside work   {statistics.median(extra):9.2f} s a round, median; {max(extra):.2f} at most")


def works(field: Field) -> dict[int, list[float]]:
    """Seconds of each hospital's work, by round."""
    found: dict[int, list[float]] = {}
    for home in field.homes.values():
        begun: dict[int, datetime] = {}
        for line in (home / "gate" / "audit.jsonl").read_text().splitlines():
            entry = json.loads(line)
            number, at = entry["round"], datetime.fromisoformat(entry["time"])
            if entry["kind"] == "train" and entry["direction"] == "in" and entry["outcome"] == "ok":
                begun.setdefault(number, at)
            elif entry["kind"] == "train-reply" and entry["outcome"] == "to be summed":
                found.setdefault(number, []).append((at - begun[number]).total_seconds())
    return found


if __name__ == "__main__":
    main()
