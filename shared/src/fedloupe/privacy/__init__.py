"""What an epsilon is: spends, how they add up, how much noise a budget needs, and where the noise comes from.

epsilon([Spend(3.486, 1 / 7, 280)], delta=1e-5)              # 3.00
noise_for(3.0, delta=1e-5, sampling_rate=1 / 7, steps=280)   # 3.49
"""

from fedloupe.privacy.accountant import (
    AccountantFailed,
    NoNoiseSuffices,
    Spend,
    SpendInvalid,
    epsilon,
    noise_for,
)
from fedloupe.privacy.clipping import clipped_update, clipped_weights, update_norm
from fedloupe.privacy.randomness import Randomness, SecureNoise, SeededNoise
from fedloupe.privacy.renyi import renyi_epsilon
from fedloupe.privacy.sizes import FEW, TIGHT, too_few

__all__ = [
    "FEW",
    "TIGHT",
    "AccountantFailed",
    "NoNoiseSuffices",
    "Randomness",
    "SecureNoise",
    "SeededNoise",
    "Spend",
    "SpendInvalid",
    "clipped_update",
    "clipped_weights",
    "epsilon",
    "noise_for",
    "renyi_epsilon",
    "too_few",
    "update_norm",
]
