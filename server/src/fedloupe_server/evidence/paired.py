"""Is the federated model better than another on the same patients? Differences of AUCs, tested at each site.

compared(results)                 # Table: each site and model, with p-values adjusted after Holm
pooled(results)                   # Table: mean differences over sites
words(results)                    # whether the federation beat each site alone, and how sure
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedloupe.metrics import Meta, random_effects
from fedloupe.metrics.discrimination import Z95
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.baselines import NAMES
from fedloupe_server.evidence.results import Results, SiteResult
from fedloupe_server.evidence.tables import Table

OWN = "Own model"
LEVEL = 0.05
LEAST = 3
"""Sites of which a mean difference is formed: the interval over two is wider than differences can be."""
COLUMNS = ("site", "against", "difference", "se", "low", "high", "p", "p_holm")


@dataclass(frozen=True)
class Difference:
    """The federated model's AUC less another's at one site; `holm`: its p-value adjusted over all of a report."""

    site: str
    role: str
    against: str
    value: float
    se: float
    p: float
    holm: float

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval, normal."""
        return self.value - Z95 * self.se

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval, normal."""
        return self.value + Z95 * self.se

    @property
    def own(self) -> bool:
        """Whether the other model is the site's own."""
        return self.against == f"local-{self.site}"

    @property
    def other(self) -> str:
        """The other model in words."""
        if self.own:
            return OWN
        if self.against.startswith("local-"):
            return f"Own model of {self.against.removeprefix('local-')}"
        return NAMES.get(self.against, f"{self.against.capitalize()} model")


def differences(results: Results) -> list[Difference]:
    """Every comparison that sites made, in the order of sites."""
    told = [(s, pair) for s in results.sites if s.assessed for pair in s.assessed.paired]
    adjusted = holm([pair.p for _, pair in told])
    return [
        Difference(s.site, s.role, pair.against, pair.difference, pair.se, pair.p, p)
        for (s, pair), p in zip(told, adjusted, strict=True)
    ]


def holm(ps: Sequence[float]) -> list[float]:
    """P-values adjusted step down after Holm, Scand J Stat 1979;6:65."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = highest
    return adjusted


def compared(results: Results) -> Table | None:
    """Each comparison with its 95 % interval and p-values; None where no site made any."""
    found = differences(results)
    if not found:
        return None
    return Table(
        "AUC of the federated model less that of another on the same patients (DeLong)",
        ("Site", "Against", "Difference (95 % interval)", "p", f"p, Holm over {len(found)}"),
        tuple(
            (d.site, d.other, _signed(d.value, d.low, d.high), formats.p_value(d.p), formats.p_value(d.holm))
            for d in found
        ),
        frozenset(i for i, d in enumerate(found) if d.role == "validate"),
        COLUMNS,
        tuple((d.site, d.against, d.value, d.se, d.low, d.high, d.p, d.holm) for d in found),
    )


def means(results: Results) -> list[tuple[str, str, Meta]]:
    """(role, other model, random-effects mean difference) where at least three sites of a role tested it."""
    groups: dict[tuple[str, str], list[Difference]] = {}
    for d in differences(results):
        groups.setdefault((d.role, d.other), []).append(d)
    found = []
    for (role, other), group in groups.items():
        if len(group) >= LEAST:
            found.append((role, other, random_effects([d.value for d in group], [d.se for d in group])))
    return sorted(found, key=lambda x: x[0])


def pooled(results: Results) -> Table | None:
    """Mean differences over training sites, and over external ones."""
    found = means(results)
    if not found:
        return None
    return Table(
        "Mean difference of AUCs over sites (random effects)",
        ("Against", "Of", "Sites", "Difference (95 % interval)", "95 % prediction interval", "I²"),
        tuple(
            (
                other,
                "training sites" if role == "train" else "external sites",
                str(m.sites),
                _signed(m.estimate, m.low, m.high),
                formats.ABSENT
                if m.prediction_low is None or m.prediction_high is None
                else f"{formats.difference(m.prediction_low)} to {formats.difference(m.prediction_high)}",
                formats.percent(m.i2),
            )
            for role, other, m in found
        ),
        frozenset(i for i, (role, *_) in enumerate(found) if role == "validate"),
        ("against", "role", "sites", "difference", "low", "high", "prediction_low", "prediction_high", "tau2", "i2"),
        tuple(
            (other, role, m.sites, m.estimate, m.low, m.high, m.prediction_low, m.prediction_high, m.tau2, m.i2)
            for role, other, m in found
        ),
    )


def words(results: Results) -> list[str]:
    """Whether the federation beat each site alone: where that is shown, where it is not, and on average."""
    own = [d for d in differences(results) if d.own]
    if not own:
        return []
    better = [d.site for d in own if d.holm < LEVEL and d.value > 0]
    worse = [d.site for d in own if d.holm < LEVEL and d.value < 0]
    open_ = [d.site for d in own if d.holm >= LEVEL]
    test = "A paired test (DeLong, adjusted after Holm)"
    where = "every training site" if len(better) == len(own) else formats.listed(better) or "no training site"
    said = [f"{test} shows the federated model to be better than the site's own at {where}."]
    if worse:
        said.append(f"It is worse at {formats.listed(worse)}.")
    if open_:
        said.append(f"At {formats.listed(open_)} the difference may be chance.")
    told = {d.site for d in own}
    if silent := [s.site for s in results.sites if s.local and s.site not in told]:
        said.append(f"Not tested at {formats.listed(silent)}: too few patients, or both models rank them alike.")
    for role, other, mean in means(results):
        if role == "train" and other == OWN:
            said.append(
                f"On average over the {formats.count(mean.sites, 'training site')} that tested it the difference is "
                f"{_signed(mean.estimate, mean.low, mean.high)}"
                + ("." if mean.low > 0 or mean.high < 0 else ": that interval includes none.")
            )
    return said


def untested(results: Results) -> list[SiteResult]:
    """Sites with other models beside the federated one that made no comparison."""
    return [s for s in results.sites if (s.local or s.local_elsewhere) and not (s.assessed and s.assessed.paired)]


def _signed(value: float, low: float, high: float) -> str:
    return f"{formats.difference(value)} ({formats.difference(low)} to {formats.difference(high)})"
