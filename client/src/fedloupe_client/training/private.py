"""A round under record-level DP-SGD (Abadi 2016, alg. 1): the record is the patient.

Per-patient gradients are Opacus's; patients are drawn by Poisson sampling; noise and sampling come from the operating
system's entropy. The denominator is the expected batch, so nothing depends on how many were drawn. No loss is returned.

Such a round keeps no checkpoint. Its noise cannot be had again, and a state between two steps would be one more thing
on disk that no noise of the round's end protects. Killed, it begins anew and is paid again, as the ledger says.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch.nn import functional as F

from fedloupe.models import Preparation, flatten
from fedloupe.privacy import Randomness, SecureNoise, Spend, noise_for
from fedloupe.study import DpSgd, Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.training.local import device, model_for, seed_for


def planned_spend(study: Study, privacy: DpSgd) -> Spend:
    """One round's spend, with the noise that keeps all the study's rounds within the study's epsilon."""
    steps = max(1, round(study.training.local_epochs / privacy.sampling_rate))
    noise = _noise(privacy.epsilon, privacy.delta, privacy.sampling_rate, steps * study.training.rounds)
    return Spend(noise, privacy.sampling_rate, steps)


@cache
def _noise(epsilon: float, delta: float, rate: float, steps: int) -> float:
    return noise_for(epsilon, delta, rate, steps)


class _Optimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus's clipping and accumulation with noise from `Randomness`."""

    source: Randomness

    def add_noise(self) -> None:
        std = self.noise_multiplier * self.max_grad_norm
        for p in self.params:
            noise = torch.from_numpy(self.source.normal(tuple(p.shape), std).astype(np.float32))
            p.grad = (p.summed_grad + noise.to(p.device)).view_as(p)


def train_round_privately(
    study: Study,
    site: str,
    cohort: Cohort,
    preparation: Preparation,
    weights: NDArray[Any],
    *,
    number: int,
    privacy: DpSgd,
    spend: Spend,
    source: Randomness | None = None,
) -> NDArray[np.float32]:
    """Weights (m) after `spend.steps` noisy steps.

    Args:
        study: the protocol.
        site: the site's name; dropout and feature noise are seeded from it, privacy does not rest on them.
        cohort: the site's patients.
        preparation: public scaling and projection.
        weights: (m) the round's start.
        number: the round, from 1.
        privacy: clipping bound and learning rate.
        spend: noise multiplier, sampling rate and steps, as entered in the ledger.
        source: of noise and sampling; the operating system's entropy where None.
    """
    source = source or SecureNoise()
    rows = cohort.rows("train")
    inputs = cohort.inputs(preparation, rows).to(device())
    labels = torch.from_numpy(cohort.labels[rows].astype(np.float32)).to(device())
    wrapped = GradSampleModule(model_for(study, cohort, weights), loss_reduction="sum")
    wrapped.train()
    optimiser = _Optimizer(
        torch.optim.SGD(wrapped.parameters(), lr=privacy.learning_rate),
        noise_multiplier=spend.noise_multiplier,
        max_grad_norm=privacy.clip,
        expected_batch_size=max(1.0, spend.sampling_rate * len(rows)),
        loss_reduction="mean",
    )
    optimiser.source = source
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(study, site, "private", number))
        for _ in range(spend.steps):
            optimiser.zero_grad()
            drawn = torch.from_numpy(source.poisson(len(rows), spend.sampling_rate))
            if len(drawn):
                logits = wrapped(*inputs.take(drawn).tensors)
                F.binary_cross_entropy_with_logits(logits, labels[drawn], reduction="sum").backward()
            else:
                for p in wrapped.parameters():
                    p.grad_sample = p.new_zeros((0, *p.shape))
            optimiser.step()
    return flatten(wrapped._module)
