"""A round under record-level DP-SGD (Abadi 2016, alg. 1): the record is the patient.

Per-patient gradients are exact (`training.per_patient`); patients are drawn by Poisson sampling;
noise and sampling come from the operating system's entropy. The denominator is the expected batch, so nothing depends
on how many were drawn. No loss is returned.

Such a round keeps no checkpoint. Its noise cannot be had again, and a state between two steps would be one more thing
on disk that no noise of the round's end protects. Killed, it begins anew and is paid again, as the ledger says.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloupe.models import Preparation, flatten
from fedloupe.privacy import Randomness, SecureNoise, Spend, noise_for
from fedloupe.study import DpSgd, Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.training.local import device, model_for, seed_for
from fedloupe_client.training.per_patient import PerPatient
from fedloupe_client.training.telling import Tell


def planned_spend(study: Study, privacy: DpSgd) -> Spend:
    """One round's spend, with the noise that keeps all the study's rounds within the study's epsilon."""
    steps = max(1, round(study.training.local_epochs / privacy.sampling_rate))
    noise = _noise(privacy.epsilon, privacy.delta, privacy.sampling_rate, steps * study.training.rounds)
    return Spend(noise, privacy.sampling_rate, steps)


@cache
def _noise(epsilon: float, delta: float, rate: float, steps: int) -> float:
    return noise_for(epsilon, delta, rate, steps)


class NoisySgd:
    """SGD on the clipped, summed and noised gradients of patients, over the expected batch (Abadi 2016, alg. 1).

    Args:
        parameters: with `grad_sample` (B, ...) at each step.
        rate: learning rate.
        noise: multiplier, standard deviation over `clip`.
        clip: L2 bound on a patient's whole gradient.
        expected: patients in a batch on average.
        source: of the noise.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        rate: float,
        *,
        noise: float,
        clip: float,
        expected: float,
        source: Randomness,
    ) -> None:
        self._parameters: list[Any] = parameters
        self._rate, self._noise, self._clip, self._expected, self._source = rate, noise, clip, expected, source

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters, and forget the patients' gradients."""
        own = torch.cat([parameter.grad_sample.flatten(1) for parameter in self._parameters], dim=1)  # (B, m)
        share = (self._clip / (own.norm(dim=1) + 1e-6)).clamp(max=1.0)
        noise = self._source.normal((own.shape[1],), self._noise * self._clip).astype(np.float32)
        update = (share @ own + torch.from_numpy(noise).to(own.device)) * (self._rate / self._expected)
        parts = update.split([parameter.numel() for parameter in self._parameters])
        for parameter, part in zip(self._parameters, parts, strict=True):
            parameter.sub_(part.view_as(parameter))
            parameter.grad_sample = parameter.grad = None


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
    tell: Tell | None = None,
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
        tell: told the steps that are done and planned.
    """
    source = source or SecureNoise()
    rows = cohort.rows("train")
    inputs = cohort.inputs(preparation, rows).to(device())
    labels = torch.from_numpy(cohort.labels[rows].astype(np.float32)).to(device())
    model = model_for(study, cohort, weights)
    model.train()
    gradients = PerPatient(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(study, site, "private", number))
        noisy_steps(
            list(model.parameters()),
            lambda drawn: gradients.of(inputs.take(drawn), labels[drawn]),
            patients=len(rows),
            privacy=privacy,
            spend=spend,
            source=source,
            tell=tell,
        )
    return flatten(model)


def noisy_steps(
    parameters: list[nn.Parameter],
    gradients: Callable[[Tensor], None],
    *,
    patients: int,
    privacy: DpSgd,
    spend: Spend,
    source: Randomness,
    tell: Tell | None = None,
) -> None:
    """The mechanism that the ledger prices: `spend.steps` steps on patients drawn by Poisson sampling.

    Args:
        parameters: moved in place.
        gradients: puts `grad_sample` (B, ...) of these patients, given as positions, beside every parameter.
        patients: how many there are.
        privacy: clipping bound and learning rate.
        spend: noise multiplier, sampling rate and steps.
        source: of noise and sampling.
        tell: told the steps that are done and planned.
    """
    optimiser = NoisySgd(
        parameters,
        privacy.learning_rate,
        noise=spend.noise_multiplier,
        clip=privacy.clip,
        expected=max(1.0, spend.sampling_rate * patients),
        source=source,
    )
    for step in range(spend.steps):
        gradients(torch.from_numpy(source.poisson(patients, spend.sampling_rate)))
        optimiser.step()
        if tell:
            tell(step + 1, spend.steps)
