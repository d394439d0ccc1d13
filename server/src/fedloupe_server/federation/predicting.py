"""What `study.prediction` promises, fitted on the training sites: calibration line, training range, prediction sets.

    fitted = fit_prediction(study.prediction, talk, sites, weights, size, journal)     # once a fit
    release(talk, every_site, fitted, weights, threshold)                                     # after validation

Line: logit(p) = a + b x over the tuning patients, x the model's log-odds; the exact maximum over all sites for the
smoothed targets (N1 + 1)/(N1 + 2) and 1/(N0 + 2), which keep it finite (Platt 1999); `temperature` fixes a = 0 (Guo
2017). With a `prior` the line maximises likelihood and prior together (`LinePrior`): it stays nearer to the identity. A
line that would be flatter than `FLATTEST`, or falling, is held there, and a fitted again: such a model tells hardly
more than the event rate, and its sets say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from fedloupe.messages import (
    CalibrateReply,
    CalibrateRequest,
    ConformReply,
    ConformRequest,
    EmbedReply,
    EmbedRequest,
    ReleaseReply,
    ReleaseRequest,
)
from fedloupe.metrics.conformal import DISTANCE_EDGES, MISFIT_EDGES, quantile, rank
from fedloupe.models import Penalty, digest
from fedloupe.study import LinePrior, Prediction
from fedloupe.study.prediction import FLATTEST
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.journal import Journal, JournalDamaged, read_tensors, write_tensors
from fedloupe_server.statistics.logistic import Terms, fit_logistic
from fedloupe_server.statistics.prediction import training_range

Floats = NDArray[np.float64]
REMEDY = "raise `split.tune`: the line is fitted to tuning patients; then start a new run"


@dataclass(frozen=True)
class FittedPrediction:
    """Frozen with the model.

    Attributes:
        line: (2) intercept and slope.
        admitted: largest 1 - p with which a set holds an outcome.
        limit: distance beyond which a case lies outside the training range.
        centre: (d), `precision` (d, d), of the training patients.
        tuned: tuning patients behind line and sets; `trained` training patients behind the range.
        sites: training sites that had enough tuning patients.
    """

    line: Floats
    admitted: float
    limit: float
    centre: Floats
    precision: Floats
    tuned: int
    trained: int
    sites: tuple[str, ...]

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but the sites' names."""
        numbers = np.array([self.admitted, self.limit])
        counts = np.array([self.tuned, self.trained])
        arrays = {"line": self.line, "centre": self.centre, "precision": self.precision}
        return {**arrays, "numbers": numbers, "counts": counts}

    @property
    def digest(self) -> str:
        """SHA-256 over the arrays."""
        return digest(*self.arrays.values())

    def threshold(self, raw: float) -> float:
        """A threshold on the model's probability as one on the calibrated probability."""
        return float(expit(self.line[0] + self.line[1] * logit(raw)))


def fit_prediction(
    rules: Prediction,
    talk: Conversation,
    sites: tuple[str, ...],
    weights: NDArray[np.float32],
    size: int,
    journal: Journal,
) -> FittedPrediction:
    """Fitted on these sites; once a run or fold: a run that goes on takes what it had.

    Sites with too few tuning patients of an outcome refuse to describe them; the others decide, and are named.

    Args:
        rules: the study's section.
        talk: with these sites.
        sites: training sites of this fit.
        weights: (m) of the last round.
        size: d, numbers that describe a patient where the training range is judged.
        journal: of the run or fold.

    Raises:
        SiteRefused: a site was silent, or none has enough tuning patients.
        NotConverged, JournalDamaged: see there.
    """
    path = journal.folder / "prediction.safetensors"
    if (found := read_tensors(path)) is not None:
        return _read(path, *found, size)

    def ask(step: int, line: Floats, targets: tuple[float, float] = (0.0, 1.0)) -> Callable[..., CalibrateRequest]:
        return lambda header: CalibrateRequest(**header, step=step, targets=targets, line=line, weights=weights)

    first = talk.sums.willing(sites, ask(0, np.zeros(2)), CalibrateReply, "the calibration")
    willing, tuned, positives = first.sites, first.reply.patients, first.reply.positives
    targets = (1 / (tuned - positives + 2), (positives + 1) / (positives + 2))

    def terms(step: int, line: Floats) -> list[CalibrateReply]:
        return [talk.sums.all(willing, ask(step, line, targets), CalibrateReply)]

    line = fit_line(terms, rules, where=f"{talk.run}, calibration", over=lambda: talk.sums.sites)
    embedded = talk.sums.all(sites, lambda header: EmbedRequest(**header, size=size, weights=weights), EmbedReply)
    centre, precision = training_range(embedded)
    shared: dict[str, Any] = {
        "line": (float(line[0]), float(line[1])),
        "weights": weights,
        "centre": centre,
        "precision": precision,
    }
    conformed = talk.sums.all(willing, lambda header: ConformRequest(**header, **shared), ConformReply)
    wanted = rank(tuned, rules.coverage)
    prediction = FittedPrediction(
        line=line,
        admitted=1.0 if wanted > tuned else quantile(conformed.misfits, MISFIT_EDGES, wanted),
        limit=quantile(conformed.distances, DISTANCE_EDGES, rank(tuned, 1 - rules.beyond)),
        centre=centre,
        precision=precision,
        tuned=tuned,
        trained=embedded.patients,
        sites=willing,
    )
    write_tensors(path, prediction.arrays, sites=" ".join(willing))
    return prediction


@dataclass(frozen=True)
class _Prior:
    """A prior's gradient and negative Hessian at a line: one more term of the sum."""

    gradient: Floats
    hessian: Floats

    @classmethod
    def at(cls, line: Floats, prior: LinePrior, mean: float | None) -> _Prior:
        """`mean`: of the log-odds; None where the line has no intercept."""
        precision = np.diag([0.0, prior.slope_sd**-2])
        if mean is not None:
            precision += np.outer([1.0, mean], [1.0, mean]) / prior.intercept_sd**2
        return cls(-precision @ (line - [0.0, 1.0]), precision)


def fit_line(
    terms: Callable[[int, Floats], Sequence[CalibrateReply]],
    rules: Prediction,
    where: str = "",
    over: Callable[[], tuple[str, ...]] = tuple,
) -> Floats:
    """(2) intercept and slope; see the module's text.

    Args:
        terms: the sites' sums at a line (2), called with the number of the step.
        rules: platt or temperature.
        where: for the error.
        over: the sites in the latest sums.

    Raises:
        NotConverged: see there.
    """
    tempered = rules.calibration == "temperature"
    asked: Callable[[int, Floats], Sequence[Terms]] = terms
    if rules.prior is not None:
        asked = _with_prior(terms, rules.prior, tempered)
    line = fit_logistic(asked, 2, Penalty(0.0), np.array([1]) if tempered else None, where, REMEDY, over)
    if line[1] >= FLATTEST:
        return line
    held = np.array([0.0, FLATTEST])
    if tempered:
        return held
    return held + fit_logistic(
        lambda step, beta: asked(step, beta + held), 2, Penalty(0.0), np.array([0]), where, REMEDY, over
    )


def _with_prior(
    terms: Callable[[int, Floats], Sequence[CalibrateReply]], prior: LinePrior, tempered: bool
) -> Callable[[int, Floats], Sequence[CalibrateReply | _Prior]]:
    """The sites' terms and the prior's.

    The mean log-odds come from the Hessian at (0, 0), where patients weigh alike; with own intercepts sites nearly do.
    """
    flat = np.sum([reply.hessian for reply in terms(0, np.zeros(2))], axis=0)
    mean = None if tempered else float(flat[0, 1] / flat[0, 0])
    return lambda step, line: [*terms(step, line), _Prior.at(line, prior, mean)]


def release(
    talk: Conversation,
    sites: tuple[str, ...],
    prediction: FittedPrediction,
    weights: NDArray[np.float32],
    threshold: float,
) -> None:
    """Give the frozen model to these sites.

    Raises:
        SiteRefused: see there; the run can be continued.
    """
    talk.ask_all(
        sites,
        lambda header: ReleaseRequest(
            **header,
            weights=weights,
            line=prediction.line,
            threshold=threshold,
            admitted=prediction.admitted,
            centre=prediction.centre,
            precision=prediction.precision,
            limit=prediction.limit,
            patients=prediction.trained,
        ),
        ReleaseReply,
    )


def read_prediction(journal: Journal) -> FittedPrediction | None:
    """What was fitted in this run or fold; None where it was not.

    Raises:
        JournalDamaged: the file is not one.
    """
    path = journal.folder / "prediction.safetensors"
    found = read_tensors(path)
    return None if found is None else _read(path, *found, np.size(found[0].get("centre", ())))


def _read(path: Path, arrays: Mapping[str, NDArray[Any]], words: Mapping[str, str], size: int) -> FittedPrediction:
    shapes = {"line": (2,), "centre": (size,), "precision": (size, size), "numbers": (2,), "counts": (2,)}
    if {name: array.shape for name, array in arrays.items()} != shapes or "sites" not in words:
        raise JournalDamaged(
            "not the calibration of this model",
            where=str(path),
            remedy="restore it, or delete it: its step is then repeated",
        )
    return FittedPrediction(
        line=arrays["line"],
        admitted=float(arrays["numbers"][0]),
        limit=float(arrays["numbers"][1]),
        centre=arrays["centre"],
        precision=arrays["precision"],
        tuned=int(arrays["counts"][0]),
        trained=int(arrays["counts"][1]),
        sites=tuple(words["sites"].split()),
    )
