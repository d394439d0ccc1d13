"""What a coordinator's service is started for: the whole study, the study until it is sealed, or a later validation.

    task = Task.of("validate", Path("FED"), study)
    task.needs(study)                           # the hospitals that are asked anything
    task.is_complete(study)                     # nobody need be asked any more
    remember(Path("FED"), "freeze", study)      # what a service that is started again without a word goes on with

All three work in the federation's folder: the study in FED/run, sealed there or to its end; a validation beside it, in
a folder of its own, while FED/run stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

from fedloupe.study import Study
from fedloupe_server.evidence import load_results
from fedloupe_server.federation.freezing import read_seal
from fedloupe_server.federation.frozen import check_stops_sealed
from fedloupe_server.federation.journal import write_atomic
from fedloupe_server.federation.validating import to_validate
from fedloupe_server.hub.standing import is_complete
from fedloupe_server.provision.errors import FederationUnusable

Name = Literal["study", "freeze", "validate"]
RUN, FILE = "run", "task.txt"


@dataclass(frozen=True)
class Task:
    """See above; made by `of`.

    Attributes:
        name: what the ServerApp is told to do.
        run: the folder that it works in.
        sealed: folder of the run that is validated; None where none is.
    """

    name: Name
    run: Path
    sealed: Path | None = None

    @classmethod
    def of(cls, name: Name, folder: Path, study: Study) -> Self:
        """The task in a federation's folder, for the study that it has now."""
        if name == "validate":
            return cls(name, folder / f"validation-{study.fingerprint[:8]}", folder / RUN)
        return cls(name, folder / RUN)

    def needs(self, study: Study) -> tuple[str, ...]:
        """The sites that are asked anything.

        Raises:
            NotSealable: a study that cannot be stopped there, or a run that this study cannot validate.
            SealBroken, ResultsUnreadable, ResultsInvalid: of the sealed run.
        """
        if self.sealed is not None:
            return to_validate(self.sealed, study, self.run)
        if self.name == "freeze":
            check_stops_sealed(study)
            return study.train_sites
        return tuple(site.name for site in study.sites)

    def is_complete(self, study: Study) -> bool:
        """Whether all of it is on disk.

        Raises:
            SealBroken: what stands there is no seal.
            ReportUnwritable, ResultsUnreadable, ResultsInvalid, Unforeseen: see `standing.is_complete`.
        """
        seal = read_seal(self.sealed or self.run) if self.name != "study" else None
        if self.name == "freeze":
            return seal is not None and seal.fingerprint == study.fingerprint and (self.run / "frozen.json").exists()
        if not is_complete(study, self.run):
            return False
        if self.sealed is None:
            return True
        about = load_results(self.run).sealed
        return about is not None and seal is not None and about.digest == seal.digest

    def run_name(self, study: Study) -> str:
        """Of the run on the wire: a site that knows several studies keeps what it did in each of them apart."""
        return f"{study.study}-{study.fingerprint[:8]}"


def remember(folder: Path, name: Name, study: Study) -> None:
    """Keep what a federation's study is run for: a service that is started again without a word goes on with it."""
    write_atomic(folder / FILE, f"{name} {study.fingerprint}\n".encode("ascii"))


def remembered(folder: Path, study: Study) -> Name:
    """What was kept; the whole study where nothing ever was.

    Raises:
        FederationUnusable: the file holds no task, or another one than the whole of another study: nobody is opened on
            the strength of that.
    """
    path = folder / FILE
    if not path.exists():
        return "study"
    word, _, fingerprint = path.read_text(encoding="ascii", errors="replace").strip().partition(" ")
    found: Name | None = next((name for name in get_args(Name) if name == word), None)
    if found == "study" or (found is not None and fingerprint == study.fingerprint):
        return found
    raise FederationUnusable(
        "the service was last started for part of another study" if found else "no task of the service",
        where=str(path),
        remedy="say what is to be done: `fedloupe start` with `--until frozen`, `--until end` or `--validate`",
    )
