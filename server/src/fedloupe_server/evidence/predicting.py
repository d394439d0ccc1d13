"""What the report says of single predictions: calibration before and after, coverage of sets, training range.

words(results), calibrated(results), covered(results)      # nothing, None and None without `study.prediction`
"""

from __future__ import annotations

from fedloupe.study.prediction import FLATTEST
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.results import LeftOut, Predicted, Results, Scores, SiteResult
from fedloupe_server.evidence.tables import Table

CALIBRATION = ("slope", "slope_se", "in_the_large", "in_the_large_se", "ece")
OFF = 0.03
"""Coverage further than this from what was agreed is said in words."""


def words(results: Results) -> list[str]:
    """How line, sets and range came about, and where they do not hold what they promise."""
    by = results.predicted
    if by is None:
        return []
    way = "intercept and slope (Platt)" if by.calibration == "platt" else "one slope (temperature)"
    said = [
        f"Log-odds were calibrated by {way}, {by.line[0]:+.2f} and {by.line[1]:.2f}, fitted to "
        f"{formats.count(by.tuned, 'tuning patient')} of {formats.listed(list(by.sites))}{_prior(by)} and frozen.",
        f"A prediction set holds every outcome whose probability is at least {1 - by.admitted:.2f}; it is to hold what "
        f"happened in {formats.percent(by.coverage)} of patients like the tuning patients.",
        f"The training range was fitted to {formats.count(by.trained, 'training patient')}; beyond it no prediction is "
        "meant to be given.",
    ]
    if by.line[1] <= FLATTEST:
        said.append("On the tuning patients the model did not rank: its probabilities say little but the event rate.")
    known = [(place.site, place.federated.covered) for place in _places(results)]
    shares = [(site, share) for site, share in known if share is not None]
    low = [f"{site} ({formats.percent(share)})" for site, share in shares if by.coverage - share > OFF]
    high = [f"{site} ({formats.percent(share)})" for site, share in shares if share - by.coverage > OFF]
    if low:
        said.append(f"Coverage is below what was agreed, by more than 3 points, at {formats.listed(low)}.")
    if high:
        said.append(
            f"Sets hold what happened more often than agreed, by more than 3 points, at {formats.listed(high)}."
        )
    if shares and not (low or high):
        said.append(f"Coverage is within 3 points of what was agreed at {formats.count(len(shares), 'place')}.")
    if shares:
        said.append("With few patients chance alone moves it by twice the error given.")
    return said


def _prior(by: Predicted) -> str:
    """That something but the patients had a say in the line."""
    if by.prior is None:
        return ""
    return f" with a prior about no change (SD {by.prior.slope_sd:g} of the slope, {by.prior.intercept_sd:g} in height)"


def calibrated(results: Results) -> Table | None:
    """Slope, calibration in the large, and expected calibration error, of the model as it comes and calibrated."""
    if results.predicted is None:
        return None
    return Table(
        "Calibration before and after: slope (1 is right), in the large (0 is right), each ± standard error, and ECE",
        (
            "Site",
            "Patients",
            "Slope before",
            "Slope after",
            "In the large before",
            "In the large after",
            "ECE before",
            "ECE after",
        ),
        tuple(
            (
                _name(place),
                str(place.federated.patients),
                *(_error(s.slope, s.slope_se) if s else formats.ABSENT for s in _both(place)),
                *(_error(s.in_the_large, s.in_the_large_se) if s else formats.ABSENT for s in _both(place)),
                *(_share(s.ece) if s else formats.ABSENT for s in _both(place)),
            )
            for place in _places(results)
        ),
        _apart(results),
        ("site", "patients", *(f"{name}_{when}" for name in CALIBRATION for when in ("before", "after"))),
        tuple(
            (
                _name(place),
                place.federated.patients,
                *(getattr(s, name) if s else None for name in CALIBRATION for s in _both(place)),
            )
            for place in _places(results)
        ),
    )


def covered(results: Results) -> Table | None:
    """How often sets hold what happened, how often they name one outcome, and who lies outside the training range."""
    by = results.predicted
    if by is None:
        return None
    return Table(
        f"Prediction sets that are to hold what happened in {formats.percent(by.coverage)} of patients",
        (
            "Site",
            "Patients",
            "Held what happened (± standard error)",
            "Named one outcome",
            "Outside the training range",
        ),
        tuple((_name(place), str(place.federated.patients), *_cells(place.federated)) for place in _places(results)),
        _apart(results),
        ("site", "patients", "held", "held_se", "named_one_outcome", "outside_range"),
        tuple(
            (_name(place), s.patients, s.covered, s.covered_se, s.single, s.beyond)
            for place in _places(results)
            if (s := place.federated)
        ),
    )


def _places(results: Results) -> list[SiteResult | LeftOut]:
    return [*results.sites, *results.left_out]


def _both(place: SiteResult | LeftOut) -> tuple[Scores | None, Scores]:
    return place.uncalibrated, place.federated


def _name(place: SiteResult | LeftOut) -> str:
    return place.site if isinstance(place, SiteResult) else f"{place.site}, left out"


def _apart(results: Results) -> frozenset[int]:
    places = _places(results)
    return frozenset(i for i, s in enumerate(places) if isinstance(s, SiteResult) and s.role == "validate")


def _cells(scores: Scores) -> tuple[str, str, str]:
    if scores.covered is None or scores.covered_se is None:
        return (formats.ABSENT,) * 3
    held = f"{100 * scores.covered:.0f} ± {100 * scores.covered_se:.0f} %"
    return held, formats.percent(scores.single), formats.percent(scores.beyond)


def _error(value: float | None, error: float | None) -> str:
    if value is None or error is None:
        return formats.ABSENT
    return f"{value:.2f} ± {error:.2f}".replace("-", "−")


def _share(value: float | None) -> str:
    return formats.ABSENT if value is None else f"{value:.2f}"
