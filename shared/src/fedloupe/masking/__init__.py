"""Secure sums (Bonawitz 2017): the coordinator learns what hospitals' answers add up to, and no single answer.

    keys, shares        once for many sums: each site's public keys, and shares of its secrets for the others
    sum                 each site's answer as integers under masks that cancel over the sites
    unmask              what takes off the masks of those who answered, and of those who vanished in between

`vectors` says what of an answer is added and how; `keys` makes secrets and masks; `shamir` splits a secret so that a
majority finds it again. Whoever holds fewer than half of the sites' shares, the coordinator's copy of everything that
crossed the wire included, sees uniformly random integers (docs/secure-sums.md has the threat model).
"""

from fedloupe.masking.keys import KEY, LEAST, Secrets, least_of, threshold_of, unmask, usable
from fedloupe.masking.vectors import (
    SUMMED,
    NotSummable,
    RunningSum,
    Term,
    add_terms,
    check_term,
    is_summed,
    real_sum,
    reply_of,
    sum_digest,
    term_of,
    weighted_mean,
)

__all__ = [
    "KEY",
    "LEAST",
    "SUMMED",
    "NotSummable",
    "RunningSum",
    "Secrets",
    "Term",
    "add_terms",
    "check_term",
    "is_summed",
    "least_of",
    "real_sum",
    "reply_of",
    "sum_digest",
    "term_of",
    "threshold_of",
    "unmask",
    "usable",
    "weighted_mean",
]
