"""A finished run's folder made into a pack; the same run gives the same bytes of every number.

pack = write_pack(run_dir)
pack.page, pack.notes        # report.html; what could not be written, and what to do
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedloupe.errors import FedLoupeError
from fedloupe.models import Preparation
from fedloupe.study import Study, load_study
from fedloupe_server.evidence.loading import load_results
from fedloupe_server.evidence.model_files import write_model
from fedloupe_server.evidence.pdf import write_pdf
from fedloupe_server.evidence.report import ReportUnwritable, write_report
from fedloupe_server.evidence.results import Results
from fedloupe_server.federation.freezing import FILE as SEAL
from fedloupe_server.federation.freezing import read_seal
from fedloupe_server.federation.journal import SEALED_RUN, Journal, write_atomic
from fedloupe_server.pack.lists import write_checklists
from fedloupe_server.pack.provenance import provenance
from fedloupe_server.pack.words import index, model_card, protocol

FOLDER = "pack"
SUMS = "SHA256SUMS"


class NoModel(FedLoupeError):
    """The run's folder lacks what the model files are made of."""

    code = "FL-827"
    title = "the run's model is not in its folder"


@dataclass(frozen=True)
class Pack:
    """What was written.

    Attributes:
        folder: of the pack.
        page: its report.
        notes: what is not in it, and what to do; empty where everything is.
    """

    folder: Path
    page: Path
    notes: tuple[str, ...]


def write_pack(run_dir: Path) -> Pack:
    """Write the pack of a finished run into `run_dir/pack`; an earlier one is replaced file by file.

    Raises:
        ResultsUnreadable, ResultsInvalid: the run is not finished, or of another version.
        ReportUnwritable: see there.
        NoModel: results are there and the model they are about is not.
    """
    results, study = load_results(run_dir), load_study(run_dir / "study.json")
    folder = run_dir / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "study.json", study.canonical)  # its SHA-256 is the fingerprint that hospitals approved
        write_atomic(folder / "results.json", (run_dir / "results.json").read_bytes())
        _write(folder / "protocol.md", protocol(study, results.features))
        fitted = _fitted(run_dir, results)
        models = _model(fitted, folder / "model", results, study)
        _write(folder / "model-card.md", model_card(results, study, files=bool(models)))
        seal = _seal(fitted, folder)
        named = {f"model/{name}": digest for name, digest in models.items()}
        _write_json(folder / "provenance.json", provenance(results, study, named, seal))
        page = write_report(results, folder, study)
        note = write_pdf(page, folder / "report.pdf")
        _write(folder / "README.md", index(results, models=bool(models), sealed=seal is not None, note=note))
        write_checklists(results, study, folder)
        _write(folder / SUMS, _sums(folder))
    except OSError as error:
        raise ReportUnwritable(
            f"writing failed: {error.strerror or error}",
            where=str(folder),
            remedy="check that the folder may be written and the disk has room, then run `fedloupe report` again",
        ) from None
    return Pack(folder, page, (note,) if note else ())


def _fitted(run_dir: Path, results: Results) -> Path:
    """The folder with the rounds and the seal: a later validation points to that of the run it validates.

    Raises:
        NoModel: it does not lie where that says, or another one does.
        SealBroken: see there.
    """
    sealed = run_dir / SEALED_RUN
    if not sealed.exists():
        return run_dir
    folder = run_dir / sealed.read_text(encoding="utf-8").strip()
    seal = read_seal(folder)
    if seal is None or results.sealed is None or seal.digest != results.sealed.digest:
        raise NoModel(
            f"the run that it validates is not at {folder}",
            where=str(sealed),
            remedy="put both folders beside each other as they were",
        )
    return folder


def _model(run_dir: Path, folder: Path, results: Results, study: Study) -> Mapping[str, str]:
    """The frozen model's files; nothing for a run without rounds, or of before columns were kept."""
    journal = Journal(run_dir)
    columns, preparation = journal.columns(), Preparation.read(journal.preparation_path)
    records = journal.rounds()
    if columns is None:
        return {}
    if preparation is None or not records or [r.weights for r in records][-1] != results.rounds[-1].weights:
        raise NoModel(
            "preparation or rounds are absent, or not those of results.json",
            where=str(run_dir),
            remedy="restore the run's folder from its copy; the report can be made where the run was made",
        )
    weights, _ = journal.load_round(records[-1])
    return write_model(
        folder,
        study,
        features=columns[0],
        columns=columns[1],
        preparation=preparation,
        weights=weights,
        line=np.array(results.predicted.line) if results.predicted else None,
        threshold=results.threshold,
        frozen=results.frozen,
        synthetic=results.synthetic,
    )


def _seal(run_dir: Path, folder: Path) -> str | None:
    """A copy of the seal, and its SHA-256; None where the run has none."""
    path = run_dir / SEAL
    if not path.exists():
        return None
    content = path.read_bytes()
    write_atomic(folder / SEAL, content)
    return hashlib.sha256(content).hexdigest()


def _sums(folder: Path) -> str:
    """SHA-256 of every file, in the form that `sha256sum --check` reads."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in files
    )


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write(path, json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    write_atomic(path, text.encode())
