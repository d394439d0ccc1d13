"""Membership by likelihood ratio (LiRA; Carlini 2022): how sure is it, beside models that saw the patient or not?

    suspicion = likelihood_ratio(released, confidence, inside)      # (n), larger: more like a member
    found = rehearse(confidence, inside)                            # each shadow attacked by all others

A patient's confidence is the log-odds that a model gives to what happened, near to normal over models. Suspicion is the
log-likelihood of the released model's under the normal of the shadows that trained on the patient, minus that under the
normal of those that did not. With few shadows the variances are pooled over patients (there, section VI-C).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedloupe_server.simulation.auditing.ranking import FALSE_ALARMS, Caught

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
MANY = 64
"""Shadows from which on a patient's own variances are trusted."""
DRAWS = 1000
LEAST = 1e-12


@dataclass(frozen=True)
class Rehearsal:
    """The attack on the shadows themselves, whose members are known.

    Attributes:
        shadows: attacked, each by all others; `patients`, each a member of some and not of others.
        auc: with its 95 % interval: patients drawn again with replacement (bootstrap, percentiles).
        caught: by share of false alarms, with intervals likewise.
    """

    shadows: int
    patients: int
    auc: float
    low: float
    high: float
    caught: dict[float, Caught]


def likelihood_ratio(released: Floats, confidence: Floats, inside: Flags) -> Floats:
    """(n) suspicion of each patient.

    Args:
        released: (n) confidence of the attacked model.
        confidence: (S, n) of the shadows.
        inside: (S, n) who trained which; everybody some and not others.
    """
    sides = []
    for side in (inside, ~inside):
        count = side.sum(0)
        mean = (confidence * side).sum(0) / count
        squares = ((confidence - mean) ** 2 * side).sum(0)
        if len(confidence) >= MANY:
            variance = squares / np.maximum(count - 1, 1)
        else:
            variance = np.full(len(mean), squares.sum() / max(int((count - 1).sum()), 1))
        sides.append(-((released - mean) ** 2) / (2 * (variance + LEAST)) - np.log(variance + LEAST) / 2)
    return np.asarray(sides[0] - sides[1], dtype=np.float64)


def rehearse(confidence: Floats, inside: Flags, seed: int = 1) -> Rehearsal:
    """Attack each shadow with the others.

    Args:
        confidence: (S, n).
        inside: (S, n); everybody in two shadows at least and out of two.
        seed: of the bootstrap.
    """
    shadows, patients = inside.shape
    left = [np.arange(shadows) != one for one in range(shadows)]
    suspicion = np.stack(
        [likelihood_ratio(confidence[i], confidence[kept], inside[kept]) for i, kept in enumerate(left)]
    )
    order = np.argsort(-suspicion, axis=None, kind="stable")
    members = inside.reshape(-1)[order]
    who = np.tile(np.arange(patients), shadows)[order]
    rng = np.random.default_rng(seed)
    measured = _measures(members, np.ones(len(who)))
    drawn = [
        _measures(members, np.bincount(rng.integers(0, patients, patients), minlength=patients)[who].astype(float))
        for _ in range(DRAWS)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    area, *shares = (Caught(*map(float, values)) for values in zip(measured, low, high, strict=True))
    caught = dict(zip(FALSE_ALARMS, shares, strict=True))
    return Rehearsal(shadows, patients, area.share, area.low, area.high, caught)


def _measures(members: Flags, weight: Floats) -> Floats:
    """Area, then the share found at each share of false alarms, of trials sorted by falling suspicion."""
    found, false = np.cumsum(weight * members), np.cumsum(weight * ~members)
    area = float((weight * ~members) @ found) / (found[-1] * false[-1])
    shares = [found[false <= share * false[-1]].max(initial=0.0) / found[-1] for share in FALSE_ALARMS]
    return np.array([area, *shares])
