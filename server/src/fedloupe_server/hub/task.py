"""What a coordinator's service is started for: the whole study, the study until it is sealed, or a later validation.

    task = Task.of("validate", Path("FED"))
    task.needs(study)                           # the hospitals that are asked anything
    task.is_complete(study)                     # nobody need be asked any more

All three work in the federation's folder: the study in FED/run, sealed there or to its end; a validation in
FED/validation, beside the sealed FED/run, which stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from fedloupe.study import Study
from fedloupe_server.federation.freezing import read_seal
from fedloupe_server.federation.frozen import check_stops_sealed
from fedloupe_server.federation.validating import to_validate
from fedloupe_server.hub.standing import is_complete

Name = Literal["study", "freeze", "validate"]
RUN, VALIDATION = "run", "validation"


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
    def of(cls, name: Name, folder: Path) -> Self:
        """The task in a federation's folder."""
        return cls(name, folder / VALIDATION, folder / RUN) if name == "validate" else cls(name, folder / RUN)

    def needs(self, study: Study) -> tuple[str, ...]:
        """The sites that are asked anything.

        Raises:
            NotSealable: a study that cannot be stopped there, or a run that this study cannot validate.
            SealBroken, ResultsUnreadable, ResultsInvalid: of the sealed run.
        """
        if self.sealed is not None:
            return to_validate(self.sealed, study)
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
        if self.name == "freeze":
            return (seal := read_seal(self.run)) is not None and seal.fingerprint == study.fingerprint
        return is_complete(study, self.run)

    def run_name(self, study: Study) -> str:
        """Of the run on the wire: a site that knows several studies keeps what it did in each of them apart."""
        return f"{study.study}-{study.fingerprint[:8]}"
