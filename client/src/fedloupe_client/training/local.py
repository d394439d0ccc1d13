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
    start_at_logistic,
    unflatten,
)
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.training.statistics import logistic_alone


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
    model = build_model(study, Schema.of(study, cohort.groups))
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
    study: Study, site: str, cohort: Cohort, preparation: Preparation, weights: NDArray[Any], *, number: int
) -> Trained:
    """One round's share: `local_epochs` epochs. FedProx adds mu/2 |w - w_round|^2 (Li 2020, eq. 2)."""
    proximal = study.training.proximal_mu if study.training.strategy == "fedprox" else 0.0
    model = model_for(study, cohort, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(study, site, "federated", number))
        loss = _epochs(study, model, cohort, preparation, number, proximal)
    return Trained(flatten(model), loss)


def train_alone(study: Study, site: str, cohort: Cohort, preparation: Preparation, weights: NDArray[Any]) -> Trained:
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
        for number in range(1, study.training.rounds + 1):
            loss = _epochs(study, model, cohort, preparation, number, 0.0)
    return Trained(flatten(model), loss)


def _epochs(
    study: Study, model: RadiomicsModel, cohort: Cohort, preparation: Preparation, number: int, proximal: float
) -> float:
    rows = cohort.rows("train")
    inputs = cohort.inputs(preparation, rows).to(device())
    labels = torch.from_numpy(cohort.labels[rows].astype(np.float32)).to(device())

    def loss_of(batch: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(*augment(inputs.take(batch)).tensors), labels[batch])

    return epochs(study, model, len(rows), loss_of, number=number, proximal=proximal)


def epochs(
    study: Study, model: nn.Module, patients: int, loss_of: Callable[[Tensor], Tensor], *, number: int, proximal: float
) -> float:
    """One round's local epochs of AdamW over shuffled batches.

    Args:
        study: its training section.
        model: changed in place.
        patients: how many are trained on.
        loss_of: mean loss of a batch, given as positions among them.
        number: of the round, from 1.
        proximal: FedProx's mu, 0 without.

    Returns:
        The mean loss of the last epoch, without FedProx's term.
    """
    anchor = [p.detach().clone() for p in model.parameters()] if proximal else []
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=learning_rate(study, number), weight_decay=study.training.weight_decay
    )
    model.train()
    last = math.nan
    for _ in range(study.training.local_epochs):
        total = 0.0
        for batch in torch.randperm(patients).split(study.training.batch_size):
            loss = loss_of(batch)
            total += float(loss.detach()) * len(batch)
            if proximal:
                loss = loss + proximal / 2 * sum(
                    ((p - a) ** 2).sum() for p, a in zip(model.parameters(), anchor, strict=True)
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        last = total / patients
    return last


def augment(batch: Inputs) -> Inputs:
    """Left-right mirror (anatomy allows it; up-down and front-back do not) and a random gain a patient."""
    mr, ct = batch.mr, batch.ct
    if not (mr.shape[1] or ct.shape[1]):
        return batch
    mirror = torch.rand(len(batch)) < 0.5
    gain = (1 + 0.1 * torch.randn(len(batch), 1, 1, 1, 1)).to(mr.device)
    mirror = mirror.to(mr.device)[:, None, None, None, None]
    mr, ct = (torch.where(mirror, image.flip(-1), image) * gain for image in (mr, ct))
    kept = (batch.radiomics, batch.radiomics_present, batch.clinical, batch.clinical_present)
    return Inputs(*kept, mr, batch.mr_present, ct, batch.ct_present)
