"""The words for differential privacy. There are two levels, and no sentence may leave open which one is meant.

    RECORD      `dp-sgd`: the unit is a patient; each hospital adds its own noise, and trusts nobody
    CLIENT      `client-dp`: the unit is a hospital; the coordinator adds the noise, and is trusted with what it sees

told(results), limit(results), too_few(noise, parameters, hospitals)
"""

from __future__ import annotations

import math

from fedloupe.study import CLIENT, RECORD
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.results import ClientAccount, Results


def stays(results: Results) -> str:
    """What left the hospitals, and what the coordinator got to see of it."""
    here = "Images, labels and patient rows stayed at the hospitals."
    if results.aggregation == "plain":
        return f"{here} Each hospital's weights and aggregates left it, and the coordinator saw them one by one."
    text = (
        f"{here} Weights and fitted statistics were added up securely: the coordinator saw sums over at least three "
        "hospitals, and each hospital's test results as its policy releases them."
    )
    if results.local_models == "everywhere":
        text += " Hospitals' own models left them in the clear, to be judged elsewhere (`evaluation.local_models`)."
    return text


def level(results: Results) -> str:
    """`RECORD`, `CLIENT`, or nothing where training was not private."""
    if results.client_level is not None:
        return CLIENT
    return "" if results.privacy == "none" else RECORD


def in_short(results: Results) -> str:
    """The guarantee in one phrase, for a table or a caption."""
    return f"{level(results)}: {results.privacy}" if level(results) else "no formal privacy guarantee"


def told(results: Results) -> list[str]:
    """What a private run protects, from whom, and what stays outside the account."""
    if (account := results.client_level) is not None:
        return _client(results, account)
    spent = [(s.site, s.epsilon) for s in results.sites if s.epsilon is not None]
    return [
        f"Training was differentially private, {RECORD}: {results.privacy}. Each hospital adds its own noise.",
        f"Epsilon spent: {formats.listed([f'{n} {formats.epsilon(e)}' for n, e in spent])}."
        if spent
        else "No site reported the epsilon it spent.",
        f"{stays(results)} Epsilon covers the weights only: evaluation aggregates of held-out patients are outside the "
        "account.",
    ]


def limit(results: Results) -> list[str]:
    """What the account of a private run does not cover."""
    if results.client_level is None:
        return [
            f"This is {RECORD} privacy: epsilon bounds what the released weights tell about one training patient of "
            "one site, over all runs counted in that site's ledger. It does not cover evaluation aggregates of "
            "held-out patients (AUC, calibration groups, score histograms) or cohort counts: these are outside the "
            "account."
        ]
    return [
        f"This is {CLIENT} privacy: epsilon bounds what the models of this run's rounds tell about one hospital's "
        "updates. It does not cover what this report says of each hospital by name (counts, AUC, calibration groups, "
        "score histograms), nor the threshold, which comes from tuning patients without noise, nor other runs with the "
        "same hospitals: these are outside the account.",
    ]


def noise_to_signal(noise: float, parameters: int, hospitals: int) -> float:
    """Length of a round's noise over that of the longest mean update: s C sqrt(m) / K against C."""
    return noise * math.sqrt(parameters) / hospitals


def too_few(noise: float, parameters: int, hospitals: int) -> str | None:
    """A sentence where the noise of a round is longer than anything that all hospitals together can say in it.

    Args:
        noise: multiplier.
        parameters: of the model.
        hospitals: that train, by the study.
    """
    ratio = noise_to_signal(noise, parameters, hospitals)
    if ratio <= 1:
        return None
    enough = math.ceil(noise * math.sqrt(parameters))
    return (
        f"{formats.count(hospitals, 'hospital')} are too few for client-level privacy with a model of {parameters:,} "
        f"parameters: in each round the noise is {_times(ratio)} as long as the longest step that all hospitals "
        f"together can take. About {enough:,} hospitals would make them equal. For a handful of hospitals the mode is "
        f"`dp-sgd`, {RECORD}."
    )


def _client(results: Results, account: ClientAccount) -> list[str]:
    few = too_few(account.noise_multiplier, results.parameters, account.hospitals)
    seen = "each hospital's clipped update" if results.aggregation == "plain" else "the sum of clipped updates"
    ratio = noise_to_signal(account.noise_multiplier, results.parameters, account.hospitals)
    return [
        f"Training was differentially private, {CLIENT}: {results.privacy}.",
        f"Over this run's {formats.count(len(results.rounds), 'round')} epsilon is {formats.epsilon(account.epsilon)} "
        f"at delta {account.delta:g}. It bounds what the models tell whoever receives them about whether one "
        "hospital's updates went in.",
        f"It does not protect against the coordinator, who saw {seen} without noise and is "
        f"trusted to have added it. It is not {RECORD} privacy: no hospital added noise of its own.",
        f"{stays(results)} Epsilon covers the models only: numbers of patients, the threshold and each hospital's "
        "evaluation results are outside the account.",
        few or f"In each round the noise is {_times(ratio)} as long as the longest step of all hospitals together.",
    ]


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"
