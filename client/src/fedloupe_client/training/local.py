"""Local epochs without differential privacy: AdamW from the round's weights, cosine over the study's rounds.

result = train_round(study, cohort, preparation, weights, round=3)
result.weights, result.loss
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fedloupe.models import (
    Inputs,
    Preparation,
    RadiomicsModel,
    Schema,
    build_model,
    flatten,
    own_intercept,
    start_at_logistic,
    unflatten,
)
from fedloupe.study import Personalisation, Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.training.augmenting import augmenting
from fedloupe_client.training.checkpoint import Checkpoint, Place, capture, restore
from fedloupe_client.training.statistics import logistic_alone
from fedloupe_client.training.telling import Tell, part_of

BATCH = 256
"""Patients that a model scores at once."""


@dataclass(frozen=True)
class Trained:
    """Weights (m) float32 after local training, and the mean loss of the last epoch."""

    weights: NDArray[np.float32]
    loss: float


def device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def model_for(study: Study, cohort: Cohort, weights: NDArray[Any]) -> RadiomicsModel:
    """The study's model with these weights, on the site's device."""
    model = build_model(study, Schema.of(study, cohort.feature_groups))
    unflatten(model, weights)
    return model.to(device())


def seed_for(study: Study, site: str, scope: str, number: int) -> int:
    """A seed for one piece of work that depends on nothing but the study, the site and the round."""
    text = f"{study.seed}|{site}|{scope}|{number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def learning_rate(study: Study, number: int) -> float:
    """Cosine from the study's rate down to a twentieth of it over the study's rounds; `number` from 1."""
    progress = (number - 1) / max(1, study.training.rounds - 1)
    return study.training.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def train_round(
    study: Study,
    site: str,
    cohort: Cohort,
    preparation: Preparation,
    weights: NDArray[Any],
    *,
    number: int,
    checkpoint: Checkpoint | None = None,
    centres: NDArray[np.int64] | None = None,
    tell: Tell | None = None,
) -> Trained:
    """One round's share: `local_epochs` epochs. FedProx adds mu/2 |w - w_round|^2 (Li 2020, eq. 2).

    With `training.random_intercept` the round begins at the site's own intercept beside the round's weights: no feature
    is needed to tell how often the event happens here. The mean over sites gives the model the hospitals' mean. FedProx
    pulls towards the round's weights with that intercept in them.

    Args:
        study, site, cohort, preparation, weights, number, checkpoint: of the round.
        centres: (n) hospital of each training patient, where one site stands for several; None: all of one.
        tell: told the steps that are done and planned.
    """
    proximal = study.training.proximal_mu if study.training.strategy == "fedprox" else 0.0
    model = model_for(study, cohort, weights)
    own = _at_own_intercepts(study, model, cohort, preparation, centres)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(study, site, "federated", number))
        loss = _epochs(study, model, cohort, preparation, number, proximal, checkpoint, own, tell=tell)
    return Trained(flatten(model), loss)


def train_alone(
    study: Study,
    site: str,
    cohort: Cohort,
    preparation: Preparation,
    weights: NDArray[Any],
    *,
    checkpoint: Checkpoint | None = None,
    tell: Tell | None = None,
) -> Trained:
    """The site's own model: the same budget and schedule as the federation, its own patients only.

    Where the federation starts at its logistic baseline, the site's own model starts at the site's own.
    """
    model = model_for(study, cohort, weights)
    if study.training.start == "logistic":
        penalty = (study.evaluation.ridge, study.evaluation.l1_ratio)
        start_at_logistic(model, logistic_alone(cohort, preparation, *penalty))
    loss = math.nan
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(study, site, "local", 0))
        for number in range(first_round(checkpoint), study.training.rounds + 1):
            part = part_of(tell, number - 1, study.training.rounds)
            loss = _epochs(study, model, cohort, preparation, number, 0.0, checkpoint, tell=part)
    return Trained(flatten(model), loss)


def fine_tune(
    study: Study,
    site: str,
    cohort: Cohort,
    preparation: Preparation,
    weights: NDArray[Any],
    *,
    checkpoint: Checkpoint | None = None,
    tell: Tell | None = None,
) -> Trained:
    """The site's personal model: epochs more from the final federated weights, own patients only, a constant rate.

    Args:
        study: with a section `personalisation`.
        site, cohort, preparation, weights, checkpoint, tell: as in `train_round`.
    """
    rules = study.personalisation or Personalisation()
    # one round of its own: the schedule's first rate is the full one, and stays for the round
    plan = {"rounds": 1, "local_epochs": rules.epochs, "learning_rate": rules.learning_rate}
    once = study.model_copy(update={"training": study.training.model_copy(update=plan)})
    model = model_for(study, cohort, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(study, site, "personal", 0))
        loss = _epochs(once, model, cohort, preparation, 1, 0.0, checkpoint, tell=tell)
    return Trained(flatten(model), loss)


def first_round(checkpoint: Checkpoint | None) -> int:
    """The round, from 1, in which a training of several rounds begins, or goes on."""
    state = checkpoint.load() if checkpoint else None
    return state.place.number if state else 1


def log_odds(model: RadiomicsModel, inputs: Inputs) -> NDArray[np.float64]:
    """(n) what the model says of these patients, as it stands."""
    model.eval()
    with torch.no_grad():
        parts = [model(*inputs.take(part).to(device()).tensors) for part in torch.arange(len(inputs)).split(BATCH)]
    return np.asarray(torch.cat(parts).double().cpu().numpy(), dtype=np.float64)


def _at_own_intercepts(
    study: Study,
    model: RadiomicsModel,
    cohort: Cohort,
    preparation: Preparation,
    centres: NDArray[np.int64] | None,
) -> Tensor | None:
    """Moves the model's intercept to the hospitals' mean; (n) what each training patient's own hospital has beyond it,
    None where that is nothing."""
    spread = study.training.random_intercept
    if spread is None:
        return None
    rows = cohort.rows("train")
    odds, labels = log_odds(model, cohort.inputs(preparation, rows)), cohort.labels[rows]
    where = np.zeros(len(rows), dtype=np.int64) if centres is None else centres
    own = np.zeros(len(rows), dtype=np.float32)
    for centre in np.unique(where):
        own[where == centre] = own_intercept(odds[where == centre], labels[where == centre], spread)
    mean = float(own.mean())
    with torch.no_grad():
        model.wide.bias.add_(mean)
    return torch.from_numpy(own - np.float32(mean)).to(device()) if centres is not None else None


def _epochs(
    study: Study,
    model: RadiomicsModel,
    cohort: Cohort,
    preparation: Preparation,
    number: int,
    proximal: float,
    checkpoint: Checkpoint | None,
    own: Tensor | None = None,
    *,
    tell: Tell | None = None,
) -> float:
    rows = cohort.rows("train")
    inputs = cohort.inputs(preparation, rows).to(device())
    labels = torch.from_numpy(cohort.labels[rows].astype(np.float32)).to(device())

    disturbed = augmenting(study, cohort.feature_groups)

    def loss_of(batch: Tensor) -> Tensor:
        logits = model(*disturbed(inputs.take(batch)).tensors)
        return F.binary_cross_entropy_with_logits(logits if own is None else logits + own[batch], labels[batch])

    return epochs(study, model, len(rows), loss_of, number=number, proximal=proximal, checkpoint=checkpoint, tell=tell)


def epochs(
    study: Study,
    model: nn.Module,
    patients: int,
    loss_of: Callable[[Tensor], Tensor],
    *,
    number: int,
    proximal: float,
    checkpoint: Checkpoint | None = None,
    tell: Tell | None = None,
) -> float:
    """One round's local epochs of AdamW over shuffled batches.

    With a checkpoint that holds a state of this round it goes on there, and ends as if it had never stopped: all chance
    is PyTorch's own generator, whose state is part of it.

    Args:
        study: its training section.
        model: changed in place.
        patients: how many are trained on.
        loss_of: mean loss of a batch, given as positions among them.
        number: of the round, from 1.
        proximal: FedProx's mu, 0 without.
        checkpoint: where the state is kept between batches; nowhere without one.
        tell: told the steps that are done and planned.

    Returns:
        The mean loss of the last epoch, without FedProx's term.
    """
    anchor = [p.detach().clone() for p in model.parameters()] if proximal else []
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=learning_rate(study, number), weight_decay=study.training.weight_decay
    )
    model.train()
    begun = checkpoint.load() if checkpoint else None
    place = restore(begun, model, optimiser) if begun and begun.place.number == number else None
    last = place.last if place else math.nan
    steps = math.ceil(patients / study.training.batch_size)
    for epoch in range(place.epoch if place else 0, study.training.local_epochs):
        order, done, total = (place.order, place.batches, place.total) if place else (torch.randperm(patients), 0, 0.0)
        place = None
        for batches, batch in enumerate(order.split(study.training.batch_size)[done:], start=done + 1):
            loss = loss_of(batch)
            total += float(loss.detach()) * len(batch)
            if proximal:
                loss = loss + proximal / 2 * sum(
                    ((p - a) ** 2).sum() for p, a in zip(model.parameters(), anchor, strict=True)
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if tell:
                tell(epoch * steps + batches, study.training.local_epochs * steps)
            if checkpoint and checkpoint.due():
                checkpoint.save(capture(model, optimiser, Place(number, epoch, batches, total, last, order)))
        last = total / patients
    return last
