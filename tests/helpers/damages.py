"""Ways to spoil a hospital, and what must hold whatever is spoiled; for the tests `test_ingest_fuzz_*`.

    VARIANTS: list[Variant] = []
    add = partial(add_to, VARIANTS)
    add("nifti", "zero-length", "corruption", {"t2w": rewrite("data/P-0001_t2w.nii.gz", lambda content: b"")})
    check(variant, hospital, outcomes, run)

Each variant says, from what the damage is and not from what the code does, which findings are right. Whatever happens,
nothing but a `FedLoupeError` leaves `ingest`, the source is not touched, the other cases stay ready, and no half-made
store lies about.
"""

from __future__ import annotations

import csv
import os
import random
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fedloupe.errors import FedLoupeError
from fedloupe_client.config import SiteConfig
from fedloupe_client.ingest import CaseRecord, IngestReport, ingest
from fedloupe_client.ingest.problems import URGENCY, DataProblem

CASES = ("P-0001", "P-0002", "P-0003", "P-0004")
OLD_S = 1_000_000_000  # a time long ago: files of that age are taken on trust
SHAPE = (6, 12, 14)
MARK = "Zz-Qq-9"  # stands in spoiled cells; no message may repeat it
NEEDLES = (*CASES, "DOE", "JANE", "ACC-778899", "Elsewhere", "19610203", MARK, "l.csv", "s.csv")

Damage = Callable[[Path], object]


@dataclass(frozen=True)
class Variant:
    """One way to spoil a hospital.

    Attributes:
        may: the kinds of finding that are right, or `ready` where the damage is harmless.
        cases: whose files or rows are spoiled; every other case must come out as in the sound hospital.
        site: the damage is to a file of all cases, so that ingest may refuse as a whole.
    """

    hospital: str
    family: str
    name: str
    damage: Damage
    may: str
    cases: tuple[str, ...] = CASES[:1]
    site: bool = False


def add_to(
    variants: list[Variant], hospital: str, family: str, may: str, named: dict[str, Damage], **more: Any
) -> None:
    variants.extend(Variant(hospital, family, name, damage, may, **more) for name, damage in named.items())


ANYTHING = (
    "ready corruption degenerate mislabelled absence configuration"  # a bit that may mean anything, but no refusal
)


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(root: Path) -> None:
        (root / name).write_bytes(change((root / name).read_bytes()))

    return damage


def cut(name: str, seed: int) -> Damage:
    """Truncated at a random place: at least one byte is kept, and one lost."""
    return rewrite(name, lambda content: content[: random.Random(seed).randrange(1, len(content))])


def flipped(content: bytes, seed: int, start: int, stop: int | None) -> bytes:
    draw, spoiled = random.Random(seed), bytearray(content)
    first, last, _ = slice(start, stop).indices(len(content))
    spoiled[draw.randrange(first, last)] ^= 1 << draw.randrange(8)
    return bytes(spoiled)


def flip(name: str, seed: int, start: int = 0, stop: int | None = None) -> Damage:
    """One bit changed, at a random place between two."""
    return rewrite(name, lambda content: flipped(content, seed, start, stop))


def folder_instead(name: str) -> Damage:
    def damage(root: Path) -> None:
        (root / name).unlink()
        (root / name).mkdir()

    return damage


def link_instead(name: str, target: str) -> Damage:
    def damage(root: Path) -> None:
        (root / name).unlink()
        (root / name).symlink_to(target)

    return damage


def general_to(
    variants: list[Variant], hospital: str, name: str, cuts: int, absent: str = "absence", **more: Any
) -> None:
    """What may befall any file: cut off, emptied, replaced, gone."""
    add = partial(add_to, variants)
    add(hospital, "cut off", "corruption", {f"{name} {n}": cut(name, n) for n in range(cuts)}, **more)
    add(hospital, "zero-length", "corruption", {name: rewrite(name, lambda content: b"")}, **more)
    add(hospital, "other content", "corruption", {
        f"{name} text": rewrite(name, lambda content: b"\x00\x01not what it was\xff" * 40),
        f"{name} noise": rewrite(name, lambda content: random.Random(5).randbytes(3000)),
    }, **more)  # fmt: skip
    add(hospital, "folder instead", f"corruption {absent}", {name: folder_instead(name)}, **more)
    add(hospital, "broken link", absent, {name: link_instead(name, "nowhere")}, **more)
    add(hospital, "link to itself", f"corruption {absent}", {name: link_instead(name, Path(name).name)}, **more)
    add(hospital, "permission", "permission", {name: Refused(name)}, **more)


@dataclass(frozen=True)
class Refused:
    """The system refuses to open the file: simulated, because root may read everything."""

    name: str

    def __call__(self, root: Path) -> Path:
        return root / self.name


TABLE = "clinical.csv"
HEADER = "case,trg,age,ct"
LINES = ("P-0001,good,61,T2", "P-0002,poor,55,T3", "P-0003,good,,", "P-0004,poor,70,T3")


FEATURES = "features.csv"
ROWS = ("case,f,g", "P-0001,1.5,2", "P-0002,0.1,3", "P-0003,0.25,1e-7", "P-0004,7,0")


def text(*lines: str, encoding: str = "utf-8", end: str = "\n") -> Damage:
    """The clinical table anew."""
    return lambda root: (root / TABLE).write_bytes((end.join(lines) + end).encode(encoding))


def features(*lines: str, encoding: str = "utf-8") -> Damage:
    """The feature table anew."""
    return lambda root: (root / FEATURES).write_bytes(("\n".join(lines) + "\n").encode(encoding))


class Hospital:
    """A sound hospital that can be spoiled and mended again, and what ingest says of it."""

    def __init__(self, root: Path, home: Path, config: SiteConfig, study: Any) -> None:
        self.root, self.home, self.config, self.study = root, home, config, study
        self.sound = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        self.mend()
        self.records = self.by_local(ingest(config, study, home).records)
        assert {record.status for record in self.records.values()} == {"ready"}

    def mend(self) -> None:
        """Every file as it was, and nothing beside."""
        for path in sorted(self.root.rglob("*"), reverse=True):
            if path.is_symlink() or (path.is_file() and path not in self.sound):
                path.unlink()
            elif path.is_dir() and path in self.sound:
                path.rmdir()
        for path, content in self.sound.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_file() or path.read_bytes() != content:
                path.write_bytes(content)
            os.utime(path, (OLD_S, OLD_S))

    def by_local(self, records: tuple[CaseRecord, ...]) -> dict[str, CaseRecord]:
        with (self.home / "ingest-local.csv").open(encoding="utf-8") as file:
            names = {line["case"]: line["local_id"] for line in csv.DictReader(file)}
        return {names[record.case]: record for record in records}


def picture(folder: Path) -> dict[str, object]:
    """What lies in a folder, to the byte: links by their target, folders by their kind."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        found[name] = os.readlink(path) if path.is_symlink() else "folder" if path.is_dir() else path.read_bytes()
    return found


def outcome_of(hospital: Hospital, variant: Variant, run: Callable[[], IngestReport]) -> tuple[str, str]:
    """The finding on a spoiled hospital, and every word that may leave it; with all that must hold whatever it is."""
    before, store = picture(hospital.root), picture(hospital.home / "store")
    said: list[str] = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            report = run()
        except FedLoupeError as error:
            assert variant.site, f"one case stopped all: {error}"
            assert isinstance(error, DataProblem), error
            assert picture(hospital.home / "store") == store, "the earlier store did not survive"
            outcome, said = error.kind, [error.what, error.remedy]
        else:
            records = hospital.by_local(report.records)
            spoiled = variant.cases == CASES
            concerned = [record for local, record in records.items() if spoiled or local not in CASES[1:]]
            concerned += [records[local] for local in variant.cases[1:] if not spoiled]
            for local in set(CASES) - set(variant.cases):
                assert records[local] == hospital.records[local], f"{local} suffers for another case"
            found = {record.kind for record in concerned} - {None}
            assert all(kind in variant.may.split() for kind in found), [(r.kind, r.code, r.reason) for r in concerned]
            outcome = next((kind for kind in URGENCY if kind in found), "ready")
            said += report.notes
            for record in report.records:
                said += [record.reason, record.remedy, *record.notes]
    said += [str(one.message) for one in warned]
    assert picture(hospital.root) == before, "a source file was touched"
    left = {path.name for path in hospital.home.rglob("*") if path.name.endswith(".part") or path.name.startswith(".P")}
    assert not left and not {"store.new", "store.old"} & {path.name for path in hospital.home.iterdir()}
    assert not [path for path in (hospital.home / "ingest" / "cases").glob(".*")]
    return outcome, "\n".join(said)


def check(
    variant: Variant,
    hospital: Hospital,
    outcomes: dict[tuple[str, str], Counter[str]],
    refuse: Callable[[Path], None],
    patch: pytest.MonkeyPatch,
) -> None:
    """Spoil, ingest, look, mend."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            variant.damage(hospital.root)

        def run() -> IngestReport:
            if isinstance(variant.damage, Refused):
                refuse(hospital.root / variant.damage.name)
            try:
                return ingest(hospital.config, hospital.study, hospital.home)
            finally:
                patch.undo()

        outcome, said = outcome_of(hospital, variant, run)
    finally:
        hospital.mend()
    outcomes.setdefault((variant.hospital, variant.family), Counter())[outcome] += 1
    assert outcome in variant.may.split()
    told = [needle for needle in (*NEEDLES, str(hospital.root)) if needle in said]
    assert not told, said
