"""Where the noise of differential privacy and the choice of patients come from.

    source = SecureNoise()                       # the operating system's entropy; what a hospital uses
    batch = source.poisson(patients=200, rate=0.25)
    noise = source.normal((20_000,), std=1.3)

`SeededNoise(seed)` runs the same arithmetic from a seed, for tests and demonstrations, and says `private = False`:
whoever knows the seed can subtract the noise.
"""

from __future__ import annotations

import math
import os
from typing import ClassVar, Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

# Summing four normals closes the floating-point side channel of a single one (Mironov 2012; Holohan & Braghin 2021).
_SUMMANDS = 4
_KEY = 32  # bytes


class Randomness(Protocol):
    """A source of Gaussian noise and of Poisson samples; `private` says whether an adversary could replay it."""

    private: ClassVar[bool]

    def normal(self, shape: tuple[int, ...], std: float = 1.0) -> NDArray[np.float64]:
        """Independent normal values of mean 0, float64 of `shape`."""
        ...

    def poisson(self, patients: int, rate: float) -> NDArray[np.int64]:
        """Indices in [0, patients), ascending, each in with probability `rate` independently; may be empty."""
        ...


class _FromWords:
    """Normal values and Bernoulli draws from a stream of random 64-bit words."""

    private: ClassVar[bool] = False

    def _words(self, count: int) -> NDArray[np.uint64]:
        raise NotImplementedError

    def normal(self, shape: tuple[int, ...], std: float = 1.0) -> NDArray[np.float64]:
        """Independent normal values by Box & Muller (1958), each the scaled sum of four.

        Args:
            shape: of the result.
            std: standard deviation, >= 0.
        """
        import torch  # here, because most readers of a ledger need none; its cos and sin are thrice as fast as NumPy's

        size = math.prod(shape)
        half = (size + 1) // 2
        total = np.zeros((2, half))
        for _ in range(_SUMMANDS):
            words = (self._words(2 * half) >> np.uint64(11)).reshape(2, half)
            # (0, 1], so that the logarithm is finite
            radius = np.sqrt(-2.0 * np.log((words[0] + np.uint64(1)) * 2.0**-53))
            angle = torch.from_numpy(words[1] * (2.0 * np.pi * 2.0**-53))
            total[0] += radius * angle.cos().numpy()
            total[1] += radius * angle.sin().numpy()
        return (total.reshape(-1)[:size] * (std / math.sqrt(_SUMMANDS))).reshape(shape)

    def poisson(self, patients: int, rate: float) -> NDArray[np.int64]:
        """Poisson sampling of patients, compared as whole numbers (exact to 2^-53).

        Args:
            patients: how many there are, >= 0.
            rate: probability in [0, 1].

        Raises:
            ValueError: a rate outside [0, 1] (a programming error: `Spend` has checked the user's).
        """
        if not 0 <= rate <= 1:
            raise ValueError(f"rate {rate} is not a probability")
        drawn = (self._words(patients) >> np.uint64(11)) < np.uint64(round(rate * 2**53))
        return np.flatnonzero(drawn).astype(np.int64)


class SecureNoise(_FromWords):
    """From the operating system's cryptographic source, stretched; cannot be replayed.

    Each draw of words asks the operating system for a fresh 256-bit key and is the stream of AES-256 in counter mode
    under it: the idea of NIST SP 800-90A's CTR_DRBG, seeded anew at every draw. A key is used once and kept nowhere,
    so the counter may begin at zero. For a million parameters a draw is 2^19 blocks; that none of them repeats tells
    it from random words with an advantage of 2^-91, and everything else would be a break of AES.
    """

    private: ClassVar[bool] = True

    def _words(self, count: int) -> NDArray[np.uint64]:
        stream = Cipher(algorithms.AES(os.urandom(_KEY)), modes.CTR(bytes(16))).encryptor()
        return np.frombuffer(stream.update(bytes(8 * count)), dtype=np.uint64)


class SeededNoise(_FromWords):
    """From a seed (PCG64); the same seed gives the same values. Not private.

    Args:
        seed: >= 0.
    """

    private: ClassVar[bool] = False

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def _words(self, count: int) -> NDArray[np.uint64]:
        return np.asarray(self._bits.random_raw(count), dtype=np.uint64)
