"""What one patient's gradient gives away: everything that the linear path reads, exactly, in closed form.

The linear path's weight gradient is (p - y) x and its bias gradient p - y: their quotient is x, the patient's radiomic
components and clinical values (Phong 2018, section 3). Over a batch it is a mixture of patients; under DP-SGD noise
stands in both numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloupe.models import Inputs, Schema, build_model
from fedloupe.privacy import Randomness, SecureNoise
from fedloupe.study import Study
from fedloupe_client.training.per_patient import PerPatient

FEWEST = 4


@dataclass(frozen=True)
class Inversion:
    """How much of the values of patients came back.

    Attributes:
        values: numbers a patient that the linear path reads.
        error: largest relative error for one patient's own gradient.
        batch: mean correlation of a batch's mean gradient with the patient most like it, by size.
        batch_by_chance: the same with numbers that no patient gave.
        noisy: mean correlation with one patient's clipped gradient under noise, by size.
        noisy_by_chance: likewise.
        patients: how many were tried each way.
    """

    values: int
    error: float
    batch: float
    batch_by_chance: float
    noisy: float
    noisy_by_chance: float
    patients: int


def invert(
    study: Study,
    groups: tuple[str, ...],
    *,
    noise: float,
    clip: float = 1.0,
    patients: int = 64,
    batch: int = 16,
    source: Randomness | None = None,
) -> Inversion | None:
    """Invert gradients of the study's model, at its start, for patients of random values.

    Nothing where the linear path reads fewer than `FEWEST` values: a correlation of so few says nothing.

    Args:
        study: its model and clinical variables.
        groups: feature groups.
        noise: multiplier under DP.
        clip: bound under DP.
        patients: tried, a multiple of `batch`.
        batch: patients in a mixed gradient.
        source: of the noise; the operating system's where None.
    """
    source = source or SecureNoise()
    schema = Schema.of(study, groups)
    if len(schema.groups) * schema.components + schema.clinical < FEWEST:
        return None
    model = build_model(study, schema).train()
    inputs, labels = made_up(schema, patients, study.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(study.seed)
        still = [module for module in model.modules() if isinstance(module, nn.Dropout)]
        for module in still:
            module.p = 0.0
        model.feature_noise = model.feature_dropout = 0.0  # what the linear path reads is then the patient itself
        PerPatient(model).of(inputs, labels)
    wide = _own(model.wide.weight).squeeze(1).double().numpy()  # (B, q)
    bias = _own(model.wide.bias).double().numpy()  # (B, 1)
    whole = np.concatenate([_own(p).flatten(1).double().numpy() for p in model.parameters()], axis=1)
    truth = torch.cat([inputs.radiomics.flatten(1), inputs.clinical], dim=1).double().numpy()
    back = wide / bias
    # the sign of the bias gradient is one bit that the attacker can try both ways: sizes of correlations
    mixed = wide.reshape(-1, batch, wide.shape[1]).mean(1)
    share = np.minimum(1, clip / np.linalg.norm(whole, axis=1))[:, None]
    noisy = wide * share + source.normal(wide.shape, noise * clip)
    nobody = np.random.default_rng(study.seed).standard_normal((2, *wide.shape))
    return Inversion(
        values=truth.shape[1],
        error=float((np.linalg.norm(back - truth, axis=1) / np.linalg.norm(truth, axis=1)).max()),
        batch=_nearest(mixed, truth, batch),
        batch_by_chance=_nearest(nobody[0], np.repeat(truth.reshape(-1, batch, truth.shape[1]), batch, 0), batch),
        noisy=_nearest(noisy, truth, 1),
        noisy_by_chance=_nearest(nobody[1], truth, 1),
        patients=patients,
    )


def _own(parameter: Tensor) -> Tensor:
    own: Tensor = parameter.grad_sample  # type: ignore[attr-defined]
    return own.detach()


def _nearest(guesses: NDArray[np.float64], truth: NDArray[np.float64], batch: int) -> float:
    """Mean over guesses (n, q) of the largest size of a correlation with the `batch` patients behind it."""
    groups = truth.reshape(len(guesses), batch, -1)
    pairs = zip(guesses, groups, strict=True)
    return float(np.mean([max(abs(np.corrcoef(one, own)[0, 1]) for own in group) for one, group in pairs]))


def made_up(schema: Schema, patients: int, seed: int) -> tuple[Inputs, Tensor]:
    """Patients of random values, nothing missing."""
    rng = torch.Generator().manual_seed(seed)
    edge = (schema.crop,) * 3
    drawn = {
        "radiomics": (patients, len(schema.groups), schema.components),
        "clinical": (patients, schema.clinical),
        "mr": (patients, schema.mr, *edge),
        "ct": (patients, schema.ct, *edge),
    }
    values = {name: torch.randn(shape, generator=rng) for name, shape in drawn.items()}
    present = {f"{name}_present": torch.ones(shape[:2]) for name, shape in drawn.items()}
    labels = (torch.rand(patients, generator=rng) < 0.5).float()
    return Inputs(**values, **present), labels
