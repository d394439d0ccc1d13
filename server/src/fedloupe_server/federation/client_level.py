"""Client-level privacy at the coordinator: add noise to the sum, divide by a fixed number, account.

    central = ClientLevel.of(study, journal)                          # None unless the study is `client-dp`
    mean = central.noised(weights, mean, answered)                    # for the strategy
    record = central.entered(record)                                  # with epsilon so far
    journal.save_round(record, ...); central.kept(record)             # before anybody hears of the round

With K training sites in the study, bound C and noise multiplier s, a round's mean update is (McMahan 2018, alg. 1)

    ( sum_k u_k + N(0, (s C)^2 I) ) / K,    |u_k| <= C.

Each hospital clips its own update, and its gate measures it before it leaves (`fedloupe_client.gate.bounding`). So one
hospital's updates being there or zero moves the sum by C at most, whatever the others send; nobody's privacy rests on
another one's honesty. The coordinator cannot measure them again: with secure sums it sees their sum alone. A hostile
term can bring that to the edge of its ring (`fedloupe.masking`), where a little more turns the sign: so the noised sum
is taken modulo the ring once more, which is what noise before the ring would have given. K is the study's, not how many
answered, so an absent hospital is a zero and moves nothing else. Every hospital is asked in every round: rounds compose
as Gaussian mechanisms with sampling rate 1, and the account is `fedloupe.privacy.epsilon` of as many. What the strategy
makes of the noised mean, its momentum included, is post-processing. Secure sums carry weights to 2^-32: an update is
longer by sqrt(m) 2^-33 at most, 7e-8 for 320,000 parameters.

A round's noise is drawn anew where the run was killed before the journal held the round. That costs nothing: until
then the noised weights were in this process's memory, or in a file at the coordinator that no record counts; a site
hears of them, and a reader sees them, only after `save_round` and `kept`. Two noised versions of one sum that both
left would be two mechanisms. That is why a round that was kept is never drawn again: `noise.jsonl` remembers it, and a
run whose journal lost such a round, or holds another in its place, stops with FL-708.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.masking.vectors import FRACTION
from fedloupe.privacy import Randomness, SecureNoise, Spend, epsilon, noise_for
from fedloupe.study import ClientDp, Study
from fedloupe_server.evidence.results import ClientAccount, RoundRecord
from fedloupe_server.federation.journal import Journal, JournalDamaged, flush_folder

Vector = NDArray[np.float32]
_RING = 2.0 ** (64 - FRACTION)
"""Weights in a sum are integers modulo this."""


class NoiseDrawn(FedLoupeError):
    """A round's noise was drawn, and the journal no longer holds that round."""

    code = "FL-708"
    title = "a round's noise may not be drawn again"


@cache
def noise_multiplier(privacy: ClientDp, rounds: int) -> float:
    """Standard deviation of the noise over the bound with which all rounds together stay within the study's epsilon.

    Raises:
        NoNoiseSuffices: see `noise_for`.
    """
    return noise_for(privacy.epsilon, privacy.delta, sampling_rate=1.0, steps=rounds)


class ClientLevel:
    """The mechanism and its account, for one run.

    Args:
        privacy: of the study.
        rounds: of the study.
        sites: K, training sites of the study.
        account: the file that remembers which rounds were kept.
        source: of the noise; the operating system's entropy where None.
    """

    def __init__(
        self, privacy: ClientDp, rounds: int, sites: int, account: Path, source: Randomness | None = None
    ) -> None:
        self.privacy, self.sites = privacy, sites
        self.noise = noise_multiplier(privacy, rounds)
        self._account = account
        self._source = source or SecureNoise()

    @classmethod
    def of(cls, study: Study, journal: Journal, records: Sequence[RoundRecord] = ()) -> ClientLevel | None:
        """What a study needs; None where its privacy is another.

        Args:
            study: the protocol.
            journal: of the run.
            records: the rounds that the journal holds.

        Raises:
            NoiseDrawn: the journal lacks a round that was kept, or holds another in its place.
            JournalDamaged: the account cannot be read.
        """
        if not isinstance(study.privacy, ClientDp):
            return None
        path = journal.folder / "noise.jsonl"
        central = cls(study.privacy, study.training.rounds, len(study.train_sites), path)
        central.agree(records)
        return central

    def noised(self, current: Vector, mean: NDArray[np.float64], answered: int) -> NDArray[np.float64]:
        """(m) the round's noised mean, for the strategy.

        Args:
            current: (m) weights that the round began with.
            mean: (m) of the weights of those who answered, each counted once.
            answered: how many.
        """
        begin = current.astype(np.float64)
        total = mean * answered + self._source.normal((len(begin),), self.noise * self.privacy.clip)
        total -= _RING * np.rint(total / _RING)  # the sum's ring has an edge: which side of it, noise must decide
        return begin + (total - begin * answered) / self.sites

    def entered(self, record: RoundRecord) -> RoundRecord:
        """The record with the client-level epsilon of all rounds up to it, and nothing that a site said of itself.

        A loss would be outside the account. An epsilon from a site would be a record-level one.
        """
        spent = epsilon([Spend(self.noise, 1.0, record.round)], self.privacy.delta)
        return record.model_copy(update={"loss": None, "epsilon": {}, "client_epsilon": spent})

    def kept(self, record: RoundRecord) -> None:
        """Remember, for good, that this round is in the journal and may now leave."""
        line = json.dumps({"round": record.round, "weights": record.weights}) + "\n"
        with self._account.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        flush_folder(self._account.parent)

    def agree(self, records: Sequence[RoundRecord]) -> None:
        """Hold the account against the journal, and add a round that was killed between the two.

        Raises:
            NoiseDrawn: see `of`.
        """
        kept = self._kept()
        if len(kept) > len(records) or any(r.weights != digest for r, digest in zip(records, kept, strict=False)):
            apart = next((i for i, d in enumerate(kept) if i >= len(records) or records[i].weights != d), 0)
            raise NoiseDrawn(
                f"round {apart + 1} was kept, may have left, and is not in the journal as it was",
                where=str(self._account),
                remedy="put the round's two files back from a copy; without one, start another run in another folder, "
                "which spends the hospitals' privacy anew",
            )
        for record in records[len(kept) :]:
            self.kept(record)

    def _kept(self) -> list[str]:
        """Digests of the rounds kept, in order. A line that was cut short was written by a process that was killed:
        its round had not left, and stands in the journal."""
        if not self._account.exists():
            return []
        content = self._account.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(self._account, len(whole))
        try:
            return [str(json.loads(line)["weights"]) for line in whole.splitlines()]
        except (ValueError, KeyError, TypeError):
            raise JournalDamaged(
                "a line of the account of noise cannot be read",
                where=str(self._account),
                remedy="put the file back from a copy; never delete it, it says which noise may not be drawn again",
            ) from None


def account(study: Study, rounds: Sequence[RoundRecord]) -> ClientAccount | None:
    """The run's client-level account for its results; None where the study's privacy is another."""
    privacy = study.privacy
    if not isinstance(privacy, ClientDp) or not rounds or rounds[-1].client_epsilon is None:
        return None
    return ClientAccount(
        epsilon=rounds[-1].client_epsilon,
        delta=privacy.delta,
        clip=privacy.clip,
        noise_multiplier=noise_multiplier(privacy, study.training.rounds),
        hospitals=len(study.train_sites),
    )
