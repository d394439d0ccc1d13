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


@dataclass(frozen=True)
class Inversion:
    """How much of the values of patients came back.

    Attributes:
        values: numbers a patient that the linear path reads.
        error: largest relative error for one patient's own gradient.
        batch: mean correlation with the nearest patient, from a batch's mean gradient.
        noisy: mean correlation, from one patient's clipped gradient with noise.
        patients: how many were tried each way.
    """

    values: int
    error: float
    batch: float
    noisy: float
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
) -> Inversion:
    """Invert gradients of the study's model, at its start, for patients of random values.

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
    model = build_model(study, schema).train()
    inputs, labels = _patients(schema, patients, study.seed)
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
    mixed = wide.reshape(-1, batch, wide.shape[1]).mean(1) / bias.reshape(-1, batch, 1).mean(1)
    nearest = [max(_alike(one, truth[k * batch + i]) for i in range(batch)) for k, one in enumerate(mixed)]
    share = np.minimum(1, clip / np.linalg.norm(whole, axis=1))[:, None]
    hidden = [part * share + source.normal(part.shape, noise * clip) for part in (wide, bias)]
    noisy = [_alike(one, own) for one, own in zip(hidden[0] / hidden[1], truth, strict=True)]
    return Inversion(
        values=truth.shape[1],
        error=float((np.linalg.norm(back - truth, axis=1) / np.linalg.norm(truth, axis=1)).max()),
        batch=float(np.mean(nearest)),
        noisy=float(np.mean(noisy)),
        patients=patients,
    )


def _own(parameter: Tensor) -> Tensor:
    own: Tensor = parameter.grad_sample  # type: ignore[attr-defined]
    return own.detach()


def _alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def _patients(schema: Schema, patients: int, seed: int) -> tuple[Inputs, Tensor]:
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
