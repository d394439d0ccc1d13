"""What ingest leaves behind: one record a case, the report, and the store that reads it all back.

store = load_store(home)
for record in store.ready: store.volume(record.case, "t2w"), store.mask(record.case)

store/index.json                          `Index`
store/cases/<case>/<sequence>.nii.gz      native grid; and mask.nii.gz
store/features.csv                        instead of cases/, where the site brings a feature table
"""

from __future__ import annotations

import gzip
import os
import time
import zlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import SimpleITK as sitk
from pydantic import BaseModel, ConfigDict, ValidationError

from fedloupe_client.ingest.formats.nifti import decode
from fedloupe_client.ingest.problems import URGENCY, IngestRunning, Kind, LabelMissing, StoreMissing, StoreUnreadable
from fedloupe_client.ingest.store.lock import locked

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 2
SWAP_TRIES, SWAP_WAIT_S = 3000, 0.01
Status = Literal["ready", "excluded", "broken"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CaseRecord(_Frozen):
    """One case, without any identifier.

    Attributes:
        case: pseudonym, 16 hex digits.
        patient: pseudonym of the patient, 16 hex digits.
        status: `ready`; `excluded` (nothing is wrong, something is absent); `broken` (mend it).
        code: error code, None when ready.
        kind: what sort of finding it is (`DataProblem.kind`), None when ready.
        reason: what is the matter, in plain words.
        remedy: what to do next.
        label: 0 or 1; None only where the label itself is the problem.
        clinical: value by the study's variable name, None where unknown; numbers, not centred.
        batch: scanner or protocol, where the study harmonises by one, maybe empty; None where the study did not ask.
        groups: level of each subgroup variable of a study with `evidence`, None where unknown; the study's words, or
            words of the table that are short and plain.
        grade: of the outcome there, before it became 1 or 0; None where the study did not ask.
        intervals: days between dates of the patient, by name; the dates themselves are not kept.
        reference: the generator's true probability (synthetic studies).
        sequences: names of the sequences present, in the study's order.
        mask: the site's `own`, or `drawn` by a model; None where the case has no images here: not ready, but for one
            whose outcome is not known yet.
        drawn_by: SHA-256 of that model.
        notes: decisions that were taken for this case.
    """

    case: str
    patient: str
    status: Status
    code: str | None = None
    kind: Kind | None = None
    reason: str = ""
    remedy: str = ""
    label: int | None = None
    clinical: dict[str, float | None] = {}
    batch: str | None = None
    groups: dict[str, str | None] = {}
    grade: str | None = None
    intervals: dict[str, int] = {}
    reference: float | None = None
    sequences: tuple[str, ...] = ()
    mask: Literal["own", "drawn"] | None = None
    drawn_by: str | None = None
    notes: tuple[str, ...] = ()


class Index(_Frozen):
    """`store/index.json`."""

    schema_version: int
    site: str
    source: Literal["dicom", "nifti", "table"]
    endpoint_column: str
    records: tuple[CaseRecord, ...]


class IngestReport(_Frozen):
    """What became of every case. `notes` are remarks on the folder as a whole."""

    site: str
    records: tuple[CaseRecord, ...]
    notes: tuple[str, ...] = ()

    @property
    def statuses(self) -> dict[str, int]:
        """Cases by status; all three are always there."""
        return {status: sum(r.status == status for r in self.records) for status in ("ready", "excluded", "broken")}

    @property
    def findings(self) -> dict[Kind, tuple[CaseRecord, ...]]:
        """Cases left out, by kind: what to mend first comes first."""
        groups = {kind: tuple(r for r in self.records if r.kind == kind) for kind in URGENCY}
        return {kind: group for kind, group in groups.items() if group}

    @property
    def drawn(self) -> dict[str, int]:
        """Cases whose mask a model drew, by the model's digest."""
        return dict(sorted(Counter(r.drawn_by for r in self.records if r.drawn_by).items()))

    @property
    def codes(self) -> dict[str, int]:
        """Cases left out, by error code."""
        return dict(sorted(Counter(r.code for r in self.records if r.code).items()))


@dataclass(frozen=True)
class Store:
    """A site's cases on disk. Records are sorted by case."""

    folder: Path
    index: Index

    @property
    def records(self) -> tuple[CaseRecord, ...]:
        """Every case, ready or not."""
        return self.index.records

    @property
    def ready(self) -> tuple[CaseRecord, ...]:
        """The cases that a study can use."""
        return tuple(r for r in self.index.records if r.status == "ready")

    @property
    def unlabelled(self) -> tuple[CaseRecord, ...]:
        """The cases whose outcome is not known yet, but whose images or features are here: they can be predicted."""
        waiting = [r for r in self.index.records if r.code == LabelMissing.code]
        if self.index.source == "table":
            there = set(self.features().index) if waiting else set()
            return tuple(r for r in waiting if r.case in there)
        return tuple(r for r in waiting if r.mask is not None)

    @property
    def drawn(self) -> dict[str, str]:
        """Digest of the model that drew the mask, by ready case; a case with its own mask is not in it."""
        return {r.case: r.drawn_by for r in self.ready if r.drawn_by}

    def volume(self, case: str, sequence: str) -> sitk.Image:
        """One sequence on its native grid.

        Raises:
            StoreUnreadable: the file is absent, damaged or not permitted.
        """
        return self._read(self.folder / "cases" / case / f"{sequence}.nii.gz")

    def mask(self, case: str) -> sitk.Image:
        """The tumour on the native grid of the study's first sequence; uint8, 0 or 1.

        Raises:
            StoreUnreadable: the file is absent, damaged or not permitted.
        """
        return self._read(self.folder / "cases" / case / "mask.nii.gz")

    def features(self) -> pd.DataFrame:
        """The site's own features: ready and unlabelled cases by feature name, float64, index `case`.

        Raises:
            StoreUnreadable: this store holds images, or the file is damaged.
        """
        import pandas as pd  # 0.4 s that only a site with a feature table need spend

        path = self.folder / "features.csv"
        try:
            text = pd.read_csv(path, index_col="case", dtype=str)
            numbers = text.to_numpy(dtype=object).astype(np.float64)  # exact, whatever pandas' own parser does
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from None
        return pd.DataFrame(numbers, index=text.index, columns=text.columns)

    @staticmethod
    def _read(path: Path) -> sitk.Image:
        try:
            image = decode(gzip.decompress(path.read_bytes()), path)
            return sitk.ReadImage(str(path)) if image is None else image
        except (OSError, EOFError, zlib.error, RuntimeError) as error:
            raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> StoreUnreadable:
    return StoreUnreadable(
        f"a file of the store cannot be read ({type(error).__name__})", where=str(path), remedy="run ingest again"
    )


def recover(home: Path) -> None:
    """Finish a swap that was interrupted between its two renames: the earlier store comes back.

    Only for the holder of the home's lock: between the renames of a living ingest there is nothing to mend.
    """
    if not (home / "store").exists() and (home / "store.old").exists():
        os.rename(home / "store.old", home / "store")


def _await_swap(home: Path) -> None:
    """Wait for a living ingest's second rename, or mend a dead one's."""
    for _ in range(SWAP_TRIES):
        if (home / "store").exists() or not (home / "store.old").exists():
            return
        try:
            with locked(home):
                recover(home)
        except IngestRunning:
            time.sleep(SWAP_WAIT_S)


def _content(home: Path, path: Path) -> bytes | None:
    """A file of the store, also where a swap begins while it is looked for; None where there is none."""
    for _ in range(2):
        _await_swap(home)
        with suppress(FileNotFoundError):
            return path.read_bytes()
    return None


def load_store(home: Path) -> Store:
    """The store that ingest built.

    Raises:
        StoreMissing: nothing was ingested.
        StoreUnreadable: another version, damaged, or not permitted.
    """
    path = home / "store" / "index.json"
    try:
        content = _content(home, path)
        if content is None:
            raise StoreMissing("the cases have not been ingested", where=str(home), remedy="run `fedloupe-site ingest`")
        index = Index.model_validate_json(content)
    except (OSError, ValidationError) as error:
        raise _unreadable(path, error) from None
    if index.schema_version != SCHEMA:
        raise StoreUnreadable(
            f"the store is of schema {index.schema_version}, this version reads {SCHEMA}",
            where=str(path),
            remedy="run ingest again",
        )
    return Store(path.parent, index)
