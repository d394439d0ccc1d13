"""A fitted run as it lies on disk, without asking anybody: to seal it, to check its seal, to validate it later.

frozen = read_frozen(Path("runs/demo"))         # study, columns, everything that was fitted
seal = freeze_run(Path("runs/demo"), key)       # written, or the one that is there holds; or SealBroken
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from fedloupe.errors import FedLoupeError
from fedloupe.freezing import Seal
from fedloupe.models import Preparation
from fedloupe.signing import Signer
from fedloupe.statistics.combat import Harmoniser
from fedloupe.study import Study
from fedloupe_server.federation.baselines import Baseline
from fedloupe_server.federation.contributed import Contributed
from fedloupe_server.federation.fit import Fitted, Installed
from fedloupe_server.federation.freezing import FILE, drawing_seal, keep_seal, make_seal, summed_sites
from fedloupe_server.federation.growing import kept_trees
from fedloupe_server.federation.journal import Journal, read_tensors
from fedloupe_server.federation.opening import alone, run_name
from fedloupe_server.federation.predicting import read_prediction
from fedloupe_server.federation.quality import read_quality

T = TypeVar("T")


class NotSealable(FedLoupeError):
    """The folder holds no run that can be sealed, or a study does not fit the sealed one."""

    code = "FL-729"
    title = "the run cannot be sealed or validated"


@dataclass(frozen=True)
class FrozenRun:
    """What a run's folder holds.

    Attributes:
        study: of the run.
        run: its name.
        features, columns: names and groups of the feature columns.
        fitted: on the training sites; what they said of their batches is not on disk.
        own: training sites' own models that left them.
        contributed: the sites that gave something, as far as was noted.
    """

    study: Study
    run: str
    features: tuple[str, ...]
    columns: tuple[str, ...]
    fitted: Fitted
    own: dict[str, NDArray[Any]]
    contributed: tuple[str, ...]

    @property
    def seal(self) -> Seal:
        """What would be sealed, not signed yet."""
        return make_seal(self.study, self.run, (self.features, self.columns), self.fitted, self.own, self.contributed)


def check_stops_sealed(study: Study) -> None:
    """A run of this study can be stopped once it is sealed.

    Raises:
        NotSealable: a drawing study; its model is evaluated as it is trained.
    """
    if study.segmentation is not None:
        raise NotSealable("a drawing study is not stopped there", where=study.study, remedy="run it to its end")


def freeze_run(run_dir: Path, key: Signer) -> Seal:
    """Seal a fitted run from what lies on disk, or check that what lies there is what was sealed.

    Args:
        run_dir: the run's folder.
        key: of the coordinator.

    Raises:
        NotSealable: something is not fitted yet.
        SealBroken: something changed since the seal was made.
        RunTaken: the run is under way.
    """
    study = _study(run_dir)
    with alone(run_dir):
        if study.segmentation is None:
            seal = read_frozen(run_dir).seal
        else:
            journal = Journal(run_dir)
            weights, gave = _weights(study, journal), _gave(journal)
            seal = drawing_seal(study, run_name(run_dir), weights, gave)
        return keep_seal(run_dir, seal.signed(key))


def read_frozen(run_dir: Path) -> FrozenRun:
    """A fitted run; not of a drawing study.

    Raises:
        NotSealable: no run there, or something is not fitted yet.
        JournalDamaged, PreparationDamaged: a file cannot be read.
    """
    study, journal = _study(run_dir), Journal(run_dir)
    columns = _there(journal.columns(), "columns.json", run_dir)
    preparation = _there(Preparation.read(journal.preparation_path), "preparation.safetensors", run_dir)
    weights = _weights(study, journal)
    beta, wanted = None, study.evaluation.logistic_baseline or study.training.start == "logistic"
    if wanted and not study.private:
        beta = _tensors(run_dir, "logistic")["beta"]
    kept = json.loads(_there(_text(run_dir / "threshold.json"), "threshold.json", run_dir))
    raw = float(kept["threshold"])
    prediction = None
    if study.prediction is not None:
        prediction = _there(read_prediction(journal), "prediction.safetensors", run_dir)
    further = []
    if study.evaluation.clinical_baseline:
        further.append(Baseline("clinical", "logistic", _tensors(run_dir, "clinical")["beta"]))
    if study.evaluation.trees:
        trees, done = kept_trees(journal)
        _there(trees if done == study.evaluation.trees.rounds else None, "the last round of trees", run_dir)
        further.append(Baseline("trees", "trees", trees))
    harmonised = None
    if study.harmonisation is not None:
        harmonised = Installed(Harmoniser(**_tensors(run_dir, "harmonisation")), {})
    fitted = Fitted(
        preparation=preparation,
        weights=weights,
        beta=beta,
        threshold=prediction.threshold(raw) if prediction else raw,
        raw_threshold=raw,
        threshold_sites=tuple(kept["sites"]),
        rounds=tuple(journal.rounds()),
        harmonised=harmonised,
        quality=read_quality(journal) if study.quality else None,
        further=tuple(further),
        prediction=prediction,
    )
    own = {site: read_tensors(run_dir / "local" / f"{site}.safetensors") for site in study.train_sites}
    vectors = {site: found[0]["weights"] for site, found in own.items() if found}
    return FrozenRun(study, run_name(run_dir), *columns, fitted, vectors, _gave(journal))


def _study(run_dir: Path) -> Study:
    text = _there(_text(run_dir / "study.json"), "study.json", run_dir)
    try:
        return Study.model_validate_json(text)
    except ValidationError:
        raise NotSealable("study.json is no study", where=str(run_dir), remedy="give a run's folder") from None


def _gave(journal: Journal) -> tuple[str, ...]:
    noted = Contributed(journal.folder / "contributed.json").sites
    return tuple(sorted({*noted, *summed_sites(journal)}))


def _weights(study: Study, journal: Journal) -> NDArray[np.float32]:
    rounds = journal.rounds()
    last = rounds[-1] if len(rounds) == study.training.rounds else None
    found = _there(last, f"round {study.training.rounds}", journal.folder)
    return journal.load_round(found)[0]


def _tensors(run_dir: Path, name: str) -> dict[str, NDArray[Any]]:
    return _there(read_tensors(run_dir / f"{name}.safetensors"), f"{name}.safetensors", run_dir)[0]


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _there(found: T | None, what: str, run_dir: Path) -> T:
    if found is None:
        remedy = f"start the run again: it goes on, and is sealed (`{FILE}`) when all is fitted"
        raise NotSealable(f"{what} is not there", where=str(run_dir), remedy=remedy)
    return found
