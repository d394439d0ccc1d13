"""Several examinations of one patient: which one counts, and how many days lie between the dates of a case.

    taken = pick_study([(s.study, s.study_date) for s in images], source.exam)
    slices = [s for s in images if s.study == taken.key]        # taken.note goes into the case's notes
    intervals(cells, clinical.dates, clinical.date_format, local)    # {"imaging_to_treatment": 12}

A choice is made only where the site declares it, and where the dates decide it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Generic, Literal, TypeVar

from fedloupe_client.config import DateFormat, Dates
from fedloupe_client.ingest.problems import DateInvalid, ExamUndecided, IntervalImplausible, StudiesSeveral

Take = Literal["first", "last", "closest_before_treatment"]
Key = TypeVar("Key", bound=Hashable)

TREATMENT_DAYS = 730
"""An image more than two years before treatment is not the one that treatment was planned on."""
OUTCOME_DAYS = 3650
"""Ten years from image to outcome: more is a wrong century or another patient's row."""

_PATTERNS: Mapping[DateFormat, str] = {"YYYY-MM-DD": "%Y-%m-%d", "DD.MM.YYYY": "%d.%m.%Y", "YYYYMMDD": "%Y%m%d"}
_WORDS: Mapping[Take, str] = {
    "first": "the first",
    "last": "the last",
    "closest_before_treatment": "the last one up to the day of treatment",
}


@dataclass(frozen=True)
class Picked(Generic[Key]):
    """The examination that counts; `note` is empty where there was no choice, and never holds a date."""

    key: Key
    note: str = ""


def read_date(text: str, form: DateFormat, column: str, where: str) -> date | None:
    """A cell as a day; None where it is empty.

    Raises:
        DateInvalid: another format, or no day of the calendar between 1900 and 2199.
    """
    if not text:
        return None
    try:
        day = datetime.strptime(text, _PATTERNS[form]).date()
    except ValueError:
        day = None
    # `strptime` takes 1.2.2024 and 2024-1-5 too: their order of day and month may be another's
    if day is None or len(text) != len(form) or not 1900 <= day.year < 2200:
        raise DateInvalid(
            f"`{column}` is not a date of the form {form}",
            where=f"{where}: `{text}`",
            remedy="correct the date, or declare the table's form as `clinical.date_format` in site.yaml",
        )
    return day


def pick(
    exams: Sequence[tuple[Key, date | None]], take: Take, where: str, *, treatment: date | None = None
) -> Picked[Key]:
    """One of several examinations by its date.

    Args:
        exams: key and day of each; keys differ.
        take: `closest_before_treatment` counts the day of treatment itself, as imaging may be on that morning.
        where: the patient's local id, for the error.
        treatment: first day of treatment, for `closest_before_treatment`.

    Raises:
        ExamUndecided: a date is absent, two are equal at the deciding place, or none is before treatment.
    """
    if len(exams) == 1:
        return Picked(exams[0][0])
    dated = [(day, key) for key, day in exams if day is not None]
    if len(dated) < len(exams):
        raise _undecided(
            f"{len(exams) - len(dated)} of {len(exams)} examinations have no date", where, "fill in the dates"
        )
    if take == "closest_before_treatment":
        if treatment is None:
            raise _undecided("the date of treatment is not known", where, "fill it in")
        dated = [one for one in dated if one[0] <= treatment]
        if not dated:
            raise _undecided(
                f"none of {len(exams)} examinations is before treatment",
                where,
                "check the dates, or leave the patient out",
            )
    days = [day for day, _ in dated]
    wanted = min(days) if take == "first" else max(days)
    if days.count(wanted) > 1:
        raise _undecided("two examinations are of one day", where, "keep one of them")
    key = dict(dated)[wanted]
    return Picked(key, f"{_WORDS[take]} of {len(exams)} examinations was taken, as site.yaml declares")


def _undecided(what: str, where: str, remedy: str) -> ExamUndecided:
    return ExamUndecided(what, where=where, remedy=remedy)


def pick_study(studies: Iterable[tuple[str, str]], take: Literal["first", "last"] | None, where: str) -> Picked[str]:
    """The DICOM study that counts among those of one case's images.

    Call it once a modality: a planning CT is a study of its own beside the MRI. Structure sets and segmentations take
    no part; they refer to their series.

    Args:
        studies: Study Instance UID (0020,000D) and Study Date (0008,0020) of each image, repeats allowed.
        take: as `exam` in site.yaml declares.
        where: the case's local id, for the error.

    Raises:
        StudiesSeveral: several studies, and no choice is declared.
        ExamUndecided: the dates do not decide.
        DateInvalid: a Study Date is no date.
        ValueError: there is no image (a programming error).
    """
    days: dict[str, set[str]] = {}
    for uid, day in studies:
        days.setdefault(uid, set()).add(day)
    if not days:
        raise ValueError("no image")
    if len(days) == 1:
        return Picked(next(iter(days)))
    if take is None:
        raise StudiesSeveral(
            f"the images come from {len(days)} examinations",
            where=where,
            remedy="declare `exam: first` or `exam: last` in site.yaml, or keep one examination's files",
        )
    if any(len(several) > 1 for several in days.values()):
        raise _undecided("one examination carries two dates", where, "export it again")
    dated = [(uid, read_date(next(iter(one)), "YYYYMMDD", "StudyDate", where)) for uid, one in sorted(days.items())]
    return pick(dated, take, where)


def intervals(cells: Mapping[Hashable, str], columns: Dates, form: DateFormat, where: str) -> dict[str, int]:
    """Whole days from imaging to treatment and to outcome, those of which both dates are known.

    Raises:
        DateInvalid: a cell is no date.
        IntervalImplausible: imaging after treatment or outcome, more than `TREATMENT_DAYS` before treatment, or more
            than `OUTCOME_DAYS` before the outcome.
    """
    days = {
        name: read_date(cells[column], form, column, where)
        for name, column in (
            ("imaging", columns.imaging),
            ("treatment", columns.treatment),
            ("outcome", columns.outcome),
        )
        if column is not None
    }
    found = {}
    imaging = days.get("imaging")
    for name, words, limit in (
        ("treatment", "treatment", TREATMENT_DAYS),
        ("outcome", "the outcome", OUTCOME_DAYS),
    ):
        other = days.get(name)
        if imaging is None or other is None:
            continue
        between = (other - imaging).days
        if not 0 <= between <= limit:
            side = f"{-between} days after" if between < 0 else f"{between} days before"
            raise IntervalImplausible(
                f"imaging is {side} {words}; 0 to {limit} days before is plausible",
                where=where,
                remedy="check the dates: day and month, the year, and whether the row is this patient's",
            )
        found[f"imaging_to_{name}"] = between
    return found
