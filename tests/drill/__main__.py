"""`make drill`: one run undisturbed, one with faults at random moments; both must end with the same weights.

    python -m tests.drill [--rounds 10] [--faults 60] [--seed 1] [--folder DIR] [--calm-network]

Five hospitals with SYNTHETIC tables, each in a network namespace of its own, secure sums, every hospital a `must`.
Needs root and /dev/net/tun for the network's faults; `--calm-network` leaves these out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.drill.faults import NETWORK, Fault, Faults
from tests.drill.field import Field
from tests.drill.link import possible
from tests.drill.studies import drill_study, drill_tables

from fedloupe_server.federation.opening import run_name

console = Console(width=100)
LONGEST_S = 3600.0


def main() -> None:
    """Run both and compare; exit code 1 where anything differs."""
    given = _arguments()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="drill-"))
    shutil.rmtree(folder, ignore_errors=True)
    tables, network = drill_tables(folder / "tables"), not given.calm_network
    if network and not possible():
        sys.exit("no network namespaces or TUN devices for this user: run as root, or with --calm-network")
    study = drill_study(given.rounds, given.epochs)
    console.print(f"{len(study.train_sites)} SYNTHETIC hospitals, {given.rounds} rounds, secure sums; in {folder}")
    calm_s, calm, _ = run(Field(study, tables, folder / "calm", namespaces=network))
    console.print(f"undisturbed  {calm_s:.0f} s from the first process to the report")
    kinds = ("superlink", "serverapp", "supernode", "clientapp", "site", *(NETWORK if network else ()))
    field = Field(study, tables, folder / "disturbed", namespaces=network)
    seconds, disturbed, faults = run(field, kinds, seed=given.seed, gap_s=given.gap, most=given.faults)
    console.print(table_of(faults, kinds))
    asked, trained = repeated(field, given.rounds)
    same = [number for number in calm if calm[number] == disturbed.get(number)]
    console.print(
        f"disturbed    {seconds:.0f} s, {seconds - calm_s:+.0f} s; {len(faults)} faults\n"
        f"repeated     {asked} of {given.rounds * len(study.train_sites)} rounds' requests were asked again, "
        f"{trained} trained again\n"
        f"weights      the same bits after {len(same)} of {given.rounds} rounds"
    )
    if len(same) != given.rounds or len(faults) < given.faults:
        sys.exit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.drill", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=100, help="of local training in a round")
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--gap", type=float, default=4.0, help="mean seconds between two faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--calm-network", action="store_true")
    return parser.parse_args()


def run(
    field: Field, kinds: tuple[str, ...] = (), *, seed: int = 0, gap_s: float = 1.0, most: int = 0
) -> tuple[float, dict[int, str], list[Fault]]:
    """Seconds, digest of the weights after each round, and the faults of one run."""
    with field:
        began = time.monotonic()
        field.start()
        faults = Faults(field, kinds, seed=seed, gap_s=gap_s, most=most)

        def over() -> bool:
            faults.look()
            status = field.status
            return status is not None and status.run in ("completed", "failed")

        field.until(over, LONGEST_S, "the run's end")
        seconds, status = time.monotonic() - began, field.status
    if status is None or status.run != "completed":
        console.print(f"the run failed: {status and status.why}")
    records = sorted((field.run / "rounds").glob("[0-9][0-9][0-9][0-9].json"))
    return seconds, {int(path.stem): json.loads(path.read_text())["weights"] for path in records}, faults.done


def table_of(faults: list[Fault], kinds: tuple[str, ...]) -> Table:
    """Faults and recoveries by kind."""
    table = Table("fault", "times", "back", "median s", "longest s")
    for kind in kinds:
        mine = [fault for fault in faults if fault.kind == kind]
        back = [fault.back for fault in mine if fault.back is not None]
        middle, longest = (f"{statistics.median(back):.1f}", f"{max(back):.1f}") if back else ("-", "-")
        what = (
            f"kill -9 {kind}"
            if kind not in NETWORK
            else {"cut": "cut", "delay": "2 s delay", "loss": "10 % loss"}[kind]
        )
        table.add_row(what, str(len(mine)), str(len(back)), middle, longest)
    return table


def repeated(field: Field, rounds: int) -> tuple[int, int]:
    """Requests of rounds that came again to a site, and trainings that were done again."""
    asked = trained = 0
    name = run_name(field.run)
    for home in field.homes.values():
        lines = [json.loads(line) for line in (home / "gate" / "audit.jsonl").read_text().splitlines()]
        train = [line for line in lines if line["kind"] in ("train", "train-reply") and line["run"] == name]
        asked += sum(line["direction"] == "in" and line["outcome"] == "ok" for line in train) - rounds
        trained += sum(line["outcome"] == "to be summed" for line in train) - rounds
    return asked, trained


if __name__ == "__main__":
    main()
