"""A run on disk, complete after every step: safetensors and JSON, written aside and renamed, never half.

run/
  study.json                  the canonical study
  name.txt                    the run's name, where it is not that of its folder
  columns.json                the feature columns that the sites agreed on, and their groups
  quality.json                a study with `quality`: every feature, and why it stays or goes
  preparation.safetensors     scaling and projection
  state.json                  what the run and its sites do, for whoever looks; run.lock: one coordinator at a time
  rounds/0001.intent.json     whom the round asks, and by when; before anybody is asked
  rounds/0001.safetensors     the round's model and the strategy's state; 0001.json who took part
  noise.jsonl                 a `client-dp` study: rounds whose noise was drawn and may not be drawn again
  logistic.safetensors        the baseline's coefficients; clinical.safetensors likewise
  trees/0001.safetensors      boosted trees up to that round, and who took part
  prediction.safetensors      a study with `prediction`: calibration line, sets and training range
  sums.json                   the sites in each secure sum, written before it is opened; sums/ what it came to
  local/<site>.safetensors    each site's own model, with `evaluation.local_models: everywhere`
  contributed.json            the sites that gave a statistic or weight to the run
  frozen.json                 digest of everything fixed before validate-only sites are opened
  seal.json                   what these sites are shown: the same by item, who contributed, the plan; signed
  folds/<site>/...            the same for a left-out site
  harmonisation.safetensors   a study with `harmonisation`: what every site installed
  threshold.json              the one threshold, and the sites it was taken from
  drawing/                    a drawing study's model and its card, instead of what follows
  sealed-run.txt              a later validation: where the run is that it validates, seen from here
  results.json                every number of the report
  pack/                       report, figures, tables, model files, checklists; written last
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedloupe.errors import FedLoupeError
from fedloupe.models import digest
from fedloupe.study import Study
from fedloupe_server.evidence.results import RoundRecord

SEALED_RUN = "sealed-run.txt"
"""In the folder of a run that validates another: where that one is, seen from here."""


class AnotherStudy(FedLoupeError):
    """The run's folder belongs to another study."""

    code = "FL-704"
    title = "the run folder holds another study"


class JournalDamaged(FedLoupeError):
    """A file of the run cannot be read."""

    code = "FL-705"
    title = "a file of the run is damaged"


class Intent(BaseModel):
    """What a round is about to do.

    Attributes:
        sites: whom it asks.
        carried: those of them who are asked for their late answer to the round before.
        deadlines: seconds that each site has from when it is asked.
        weights: SHA-256 of the model that it starts from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    round: int
    sites: tuple[str, ...]
    carried: tuple[str, ...] = ()
    deadlines: dict[str, float]
    weights: str


def write_atomic(path: Path, content: bytes) -> None:
    """Write aside, flush to disk, rename, and flush the new name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Put names of files on disk: a rename is not there before its folder is.

    Raises:
        OSError: there is no such folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]], **metadata: str) -> None:
    """Arrays and a few words as one safetensors file."""
    write_atomic(path, save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, metadata=metadata))


def read_tensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]] | None:
    """What `write_tensors` wrote, or None where the file is absent.

    Raises:
        JournalDamaged: the file is not safetensors.
    """
    if not path.exists():
        return None
    try:
        with safe_open(str(path), framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise JournalDamaged(
            f"not a safetensors file: {error}",
            where=str(path),
            remedy="restore it, or delete it: its step is then repeated",
        ) from None


class Journal:
    """The folder of a run, or of one fold of it."""

    def __init__(self, folder: Path, run: Path | None = None) -> None:
        self.folder = folder
        self.public_preparation_path = (run or folder) / "public-preparation.safetensors"
        folder.mkdir(parents=True, exist_ok=True)

    def open_for(self, study: Study) -> None:
        """Take the folder for this study, or go on with it.

        Raises:
            AnotherStudy: the folder already holds another fingerprint.
        """
        path = self.folder / "study.json"
        if path.exists() and path.read_bytes() != (study.canonical + "\n").encode():
            raise AnotherStudy(
                "the folder was made by a study with another fingerprint",
                where=str(self.folder),
                remedy="choose another --out, or move that folder away",
            )
        write_atomic(path, (study.canonical + "\n").encode())

    def fold(self, site: str) -> Journal:
        """The journal of the fold that leaves this site out."""
        return Journal(self.folder / "folds" / site, run=self.folder)

    @property
    def preparation_path(self) -> Path:
        """Where the run's preparation stands."""
        return self.folder / "preparation.safetensors"

    @property
    def begun(self) -> bool:
        """Whether sites have worked for this run already."""
        return self.preparation_path.exists() or (self.folder / "rounds").exists()

    def keep_columns(self, features: tuple[str, ...], groups: tuple[str, ...]) -> None:
        """Keep names and groups of the feature columns, once they are agreed: the run is sealed with them."""
        content = {"features": list(features), "groups": list(groups)}
        write_atomic(self.folder / "columns.json", (json.dumps(content, indent=0) + "\n").encode())

    def columns(self) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Names and groups of the feature columns; None where they are not agreed.

        Raises:
            JournalDamaged: the file cannot be read.
        """
        path = self.folder / "columns.json"
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_bytes())
            return tuple(map(str, found["features"])), tuple(map(str, found["groups"]))
        except (ValueError, KeyError, TypeError):
            raise JournalDamaged(
                "the run's columns cannot be read", where=str(path), remedy="delete it: they are asked again"
            ) from None

    def intend(self, intent: Intent) -> None:
        """Keep what a round is about to do, before anybody hears of it."""
        write_atomic(self._intent(intent.round), (intent.model_dump_json(indent=1) + "\n").encode())

    def intent(self, number: int, weights: str) -> Intent | None:
        """What this round was about to do with these weights when its process ended; None where it never began.

        Raises:
            JournalDamaged: the file cannot be read.
        """
        path = self._intent(number)
        if not path.exists():
            return None
        try:
            found = Intent.model_validate_json(path.read_bytes())
        except ValidationError:
            raise JournalDamaged(
                "the intent of a round cannot be read", where=str(path), remedy="delete it: the round is planned anew"
            ) from None
        return found if found.weights == weights else None

    def _intent(self, number: int) -> Path:
        return self.folder / "rounds" / f"{number:04d}.intent.json"

    def save_round(self, record: RoundRecord, weights: NDArray[np.float32], state: Mapping[str, NDArray[Any]]) -> None:
        """Keep a round: the model first, then the record that makes it count."""
        stem = self.folder / "rounds" / f"{record.round:04d}"
        write_tensors(
            stem.with_suffix(".safetensors"),
            {"weights": weights, **{f"state.{k}": v for k, v in state.items()}},
            state=digest(*(state[k] for k in sorted(state))),
        )
        write_atomic(stem.with_suffix(".json"), (record.model_dump_json(indent=1) + "\n").encode())

    def rounds(self) -> list[RoundRecord]:
        """The complete rounds, in order, up to the first gap."""
        records: list[RoundRecord] = []
        while (path := self.folder / "rounds" / f"{len(records) + 1:04d}.json").exists():
            try:
                records.append(RoundRecord.model_validate_json(path.read_bytes()))
            except ValidationError:
                raise JournalDamaged(
                    "the record of a round cannot be read", where=str(path), remedy=self._repeat("delete it")
                ) from None
        return records

    def _repeat(self, how: str) -> str:
        if (self.folder / "noise.jsonl").exists():
            return "put the round's two files back from a copy: its noise may not be drawn again"
        return f"{how}: the round is repeated"

    def load_round(self, record: RoundRecord) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
        """A round's weights and the strategy's state.

        Raises:
            JournalDamaged: the model is absent or not the one that the record names.
        """
        path = self.folder / "rounds" / f"{record.round:04d}.safetensors"
        found = read_tensors(path)
        tensors, words = found or ({}, {})
        state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
        whole = "weights" in tensors and digest(tensors["weights"]) == record.weights
        if not whole or digest(*(state[k] for k in sorted(state))) != words.get("state"):
            raise JournalDamaged(
                "the round's model is absent or altered",
                where=str(path),
                remedy=self._repeat("delete this round's JSON"),
            )
        return tensors["weights"], state

    def freeze(self, content: Mapping[str, object]) -> None:
        """Write `frozen.json`; a second freeze must say the same.

        Raises:
            JournalDamaged: something changed after the freeze.
        """
        text = json.dumps(content, indent=1, sort_keys=True) + "\n"
        path = self.folder / "frozen.json"
        if path.exists() and path.read_text() != text:
            raise JournalDamaged(
                "weights, preparation or threshold changed after the freeze",
                where=str(path),
                remedy="start a new run in another folder",
            )
        write_atomic(path, text.encode())
