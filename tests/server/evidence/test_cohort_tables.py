"""Who the patients were, as tables and a drawing: against numpy and pandas on the values that sites' lines sum up."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedloupe.assessing import Described
from fedloupe.study import Evidence, parse_study
from fedloupe_server.evidence.assessed import CohortTable
from fedloupe_server.evidence.cohort_lines import Column, Sheet
from fedloupe_server.evidence.cohort_shift import (
    apart_in_levels,
    development_against_evaluation,
    site_heterogeneity,
)
from fedloupe_server.evidence.cohort_tables import by_part, flow, labels, missing, shown_number, splits, table_one
from fedloupe_server.evidence.flow_chart import chart
from fedloupe_server.evidence.reasons import TITLES
from fedloupe_server.evidence.tables import Table

EVIDENCE = Evidence.model_validate(
    {
        "subgroups": [
            {"name": "sex", "column": "sex", "levels": {"women": ["f"], "men": ["m"]}},
            {"name": "stage", "column": "stage", "levels": {"t2": ["2"], "t3": ["3"], "t4": ["4"]}},
            {"name": "vendor", "header": "vendor"},
            {"name": "kind", "column": "kind"},
        ]
    }
)
VENDORS = ("GE", "Siemens", "Philips", "Canon", "other")
LEVELS = {"sex": ("women", "men"), "stage": ("t2", "t3", "t4"), "vendor": VENDORS, "outcome": ("event", "no event")}
TRAINING, EXTERNAL = ("north", "east"), "lakeside"


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    rows = []
    for site, size in (("north", 130), ("east", 110), (EXTERNAL, 90)):
        for number in range(size):
            evaluates = site == EXTERNAL or number % 4 == 0
            rows.append((site, "evaluation" if evaluates else "development"))
    made = pd.DataFrame(rows, columns=["site", "part"])
    shift = made["part"].eq("evaluation") * 3.0
    made["age"] = rng.normal(62, 10, len(made)) + shift
    made.loc[rng.random(len(made)) < 0.1, "age"] = np.nan
    made["days"] = rng.integers(30, 90, len(made)).astype(float)
    made["sex"] = rng.choice(["women", "men"], len(made), p=[0.4, 0.6])
    made["stage"] = rng.choice(["t2", "t3", "t4"], len(made), p=[0.2, 0.5, 0.3])
    made["vendor"] = np.where(made["site"] == "north", "Siemens", rng.choice(["GE", "Philips"], len(made)))
    made["outcome"] = rng.choice(["event", "no event"], len(made), p=[0.35, 0.65])
    return made


def lines(people: pd.DataFrame, site: str) -> list[Described]:
    found = []
    for part in ("development", "evaluation"):
        here = people[(people["site"] == site) & (people["part"] == part)]
        if here.empty:
            continue
        for variable, levels in LEVELS.items():
            counts = here[variable].value_counts()
            size = {"patients": len(here), "missing": 0}
            found += [
                Described(variable=variable, part=part, level=level, count=int(counts.get(level, 0)), **size)
                for level in levels
            ]
        for variable, name in (("age", "age"), ("days", "interval imaging_to_outcome")):
            known = here[variable].dropna()
            size = {"patients": len(known), "missing": len(here) - len(known)}
            found.append(Described(variable=name, part=part, mean=known.mean(), sd=known.std(ddof=1), **size))
    return found


def cohort(some: list[Described], **changes) -> CohortTable:
    size = sum(line.patients + line.missing for line in some if line.variable == "age")
    body = {"candidates": size + 5, "patients": size, "shared": 0, "scale": None, "splits": "ab" * 32, "withheld": ()}
    return CohortTable(**{**body, "lines": tuple(some), **changes})


@pytest.fixture
def results(make_results):
    return make_results()


@pytest.fixture
def make(results, people):
    """Results of three sites that sent their tables; `changes` by site spoils one."""

    def made(**changes):
        sites = [site for site in results.sites if site.site in (*TRAINING, EXTERNAL)]
        told = {site.site: changes.get(site.site, cohort(lines(people, site.site))) for site in sites}
        with_tables = tuple(site.model_copy(update={"cohort": told[site.site]}) for site in sites)
        return results.model_copy(update={"sites": with_tables, "evidence": EVIDENCE})

    return made


def row(table, name: str) -> dict[str, str]:
    (found,) = [r for r in table.rows if r[0] == name]
    return dict(zip(table.header, found, strict=True))


class TestTableOne:
    def test_pooled_numbers_are_those_of_the_pooled_patients(self, make, people):
        sheet = Sheet.of(make())
        for part in ("development", "evaluation"):
            ages = people[people["part"] == part]["age"]
            line = sheet.pooled(part, "age", None)
            assert (line.patients, line.missing) == (ages.count(), ages.isna().sum())
            assert (line.mean, line.sd) == pytest.approx((ages.mean(), ages.std(ddof=1)))
            women = sheet.pooled(part, "sex", "women")
            here = people[people["part"] == part]
            assert (women.count, women.patients) == ((here["sex"] == "women").sum(), len(here))

    def test_cells_are_what_each_site_shows(self, make, people):
        table = table_one(make())
        here = people[(people["site"] == "north") & (people["part"] == "evaluation")]
        women = (here["sex"] == "women").sum()
        shown = row(table, "sex: women")
        assert shown["north, evaluation"] == f"{women} ({100 * women / len(here):.0f} %)"
        assert (
            row(table, "age, mean (SD)")["north, evaluation"] == f"{here['age'].mean():.1f} ({here['age'].std():.1f})"
        )
        assert f"{EXTERNAL}, development" not in table.header
        assert [r[0] for r in table.rows[:2]] == ["outcome: event", "outcome: no event"]
        assert table.rows[-1][0] == "interval imaging_to_outcome, days, mean (SD)"
        levels = [r[0] for r in table.rows if r[0].startswith("stage")]
        assert levels == ["stage: t2", "stage: t3", "stage: t4"]

    def test_what_a_site_holds_back_reads_so_and_is_in_no_sum(self, make, people):
        hidden = {("stage", "t2"), ("stage", "t4"), ("age", None)}
        kept = [line for line in lines(people, "east") if (line.variable, line.level) not in hidden]
        table = table_one(make(east=cohort(kept, withheld=("age", "stage"))))
        assert row(table, "stage: t2")["east, evaluation"] == "withheld"
        assert row(table, "stage: t3")["east, evaluation"] != "withheld"
        assert row(table, "age, mean (SD)")["east, development"] == "withheld"
        rest = people[(people["part"] == "evaluation") & (people["site"] != "east")]
        count = (rest["stage"] == "t2").sum()
        assert row(table, "stage: t2")["All sites, evaluation"] == f"{count} ({100 * count / len(rest):.0f} %)"

    def test_a_variable_that_every_site_holds_back_is_a_row(self, make, people):
        kept = {name: [x for x in lines(people, name) if x.variable != "sex"] for name in (*TRAINING, EXTERNAL)}
        table = table_one(make(**{name: cohort(some, withheld=("sex",)) for name, some in kept.items()}))
        assert set(row(table, "sex").values()) == {"sex", "withheld", "–"}

    def test_words_that_one_site_lacks_are_nobody_there(self, make, people):
        def word(site, part, counts):
            size = {"patients": sum(counts.values()), "missing": 0}
            return [Described(variable="kind", part=part, level=w, count=n, **size) for w, n in counts.items()]

        north = [*lines(people, "north"), *word("north", "evaluation", {"a": 20, "b": 13})]
        east = [*lines(people, "east"), *word("east", "evaluation", {"b": 28})]
        table = table_one(make(north=cohort(north), east=cohort(east)))
        assert row(table, "kind: a")["east, evaluation"] == "0 (0 %)"
        assert row(table, "kind: a")["All sites, evaluation"] == "20 (33 %)"
        assert row(table, "kind: a")[f"{EXTERNAL}, evaluation"] == "–"

    def test_grades_of_two_scales_are_not_added(self, make, people):
        grade = Described(variable="grade", part="evaluation", level="1", count=33, patients=33, missing=0)
        north = cohort([*lines(people, "north"), grade], scale="dworak")
        east = cohort([*lines(people, "east"), grade], scale="mandard")
        table = table_one(make(north=north, east=east))
        for scale in ("dworak", "mandard"):
            assert row(table, f"grade ({scale}): 1")["All sites, evaluation"] == "33 (100 %)"

    @pytest.mark.parametrize(
        ("mean", "sd", "text"),
        [(63.14, 10.94, "63.1 (10.9)"), (0.1234, 0.3456, "0.12 (0.35)"), (512.3, 130.2, "512 (130)"),
         (-2.0, 1.5, "−2.0 (1.5)"), (5.0, 0.0, "5.0 (0.0)"), (5.0, None, "5.0 (–)")],
    )  # fmt: skip
    def test_few_digits_are_shown(self, mean, sd, text):
        assert shown_number(Described(variable="x", part="evaluation", patients=9, missing=0, mean=mean, sd=sd)) == text


class TestMissing:
    def test_counts_and_shares(self, make, people):
        table = missing(make())
        here = people[(people["site"] == "east") & (people["part"] == "development")]["age"]
        assert row(table, "age")["east, development"] == f"{here.isna().sum()} ({100 * here.isna().mean():.0f} %)"
        every = people[people["part"] == "evaluation"]["age"]
        assert row(table, "age")["All sites, evaluation"].startswith(f"{every.isna().sum()} ")
        assert row(table, "sex")["east, development"] == "0 (0 %)"

    def test_held_back_is_not_zero(self, make, people):
        some = [line for line in lines(people, "east") if line.variable != "age"]
        assert row(missing(make(east=cohort(some, withheld=("age",)))), "age")["east, evaluation"] == "withheld"


class TestFlow:
    def test_adds_up_and_says_why(self, make):
        results = make()
        table = flow(results)
        assert row(table, "Left out: FL-205 site is not in the study")["east"] == "2"
        east = next(site for site in results.sites if site.site == "east")
        assert row(table, "Used")["east"] == str(east.train + east.tune + east.test)
        assert row(table, "Cases looked at")["east"] == str(east.cohort.candidates)
        assert row(table, "Events among those used")["All sites"] == str(sum(s.positives for s in results.sites))

    def test_without_a_table_what_was_looked_at_is_what_was_used_or_left_out(self, results):
        east = next(site for site in results.sites if site.site == "east")
        assert row(flow(results), "Cases looked at")["east"] == str(east.train + east.tune + east.test + 3)

    def test_the_drawing_shows_the_tables_numbers(self, make):
        results = make()
        drawn, table = chart(results), flow(results)
        shown = {site: dict(zip(drawn.header, (site, *rest), strict=True)) for site, *rest in drawn.rows}
        named = {"looked_at": "Cases looked at", "left_out": "Left out", "used": "Used"}
        named |= {part: f"Used: {part}" for part in ("training", "tuning", "evaluation")}
        named["events"] = "Events among those used"
        for column, name in named.items():
            told = row(table, name)
            assert {site: f"{cells[column]:,}" for site, cells in shown.items()} == {s: told[s] for s in shown}, name
        texts = [one.text for one in ElementTree.fromstring(drawn.svg).iter("{http://www.w3.org/2000/svg}text")]
        whole = shown["All sites"]
        left = [f"{whole['left_out']} left out", "2 FL-205 site is not in the study"]
        for words in (f"{whole['looked_at']} cases looked at", f"{whole['used']} cases used", *left):
            assert words in texts
        trained = [s for s in results.sites if s.role == "train"]
        foot = texts.index(f"{len(trained)} hospitals that trained")
        together = texts.index("together", foot)
        sums = [sum(getattr(s, field) for s in trained) for field in ("train", "tune", "test", "positives")]
        assert texts[together + 1 : together + 5] == [f"{n:,}" for n in sums]
        assert {s.site for s in trained} < set(texts[foot:together])
        outside = texts.index("1 hospital that only validated")
        assert texts[outside + 3 : outside + 5] == [EXTERNAL, str(shown[EXTERNAL]["evaluation"])]

    def test_without_an_outside_hospital_there_is_one_box_at_the_foot(self, make):
        inside = make()
        inside = inside.model_copy(update={"sites": tuple(s for s in inside.sites if s.role == "train")})
        assert "only validated" in chart(make()).svg and "only validated" not in chart(inside).svg

    def test_a_study_that_asks_for_no_evidence_has_no_drawing(self, make):
        assert chart(make().model_copy(update={"evidence": None})) is None

    def test_its_words_are_those_of_the_page_of_errors(self):
        """The coordinator's package must not import the hospital's, so it has a copy of their titles."""
        page = (Path(__file__).parents[3] / "docs" / "errors.md").read_text(encoding="utf-8")
        titles = dict(re.findall(r"^\| `(FL-\d+)` \| ([^|]+?) \|", page, re.MULTILINE))
        assert {code: titles[code] for code in TITLES} == TITLES
        of_cases = re.findall(r"^\| `(FL-[23]\d\d)` \| [^|]+\| (?!configuration)\w+ \|", page, re.MULTILINE)
        assert set(of_cases) <= set(TITLES)


class TestDifferences:
    def test_of_shares_is_austins_and_signed(self):
        expected = (0.42 - 0.31) / sqrt((0.31 * 0.69 + 0.42 * 0.58) / 2)
        found = apart_in_levels({"a": 31, "b": 69}, {"a": 42, "b": 58}, ["a", "b"])
        assert found == pytest.approx(expected)
        assert apart_in_levels({"a": 42, "b": 58}, {"a": 31, "b": 69}, ["a", "b"]) == pytest.approx(-expected)

    def test_without_a_common_level_there_is_no_number(self):
        assert apart_in_levels({"a": 5}, {"b": 5}, ["a", "b"]) is None
        assert apart_in_levels({"a": 5}, {"b": 5, "c": 1}, ["a", "b", "c"]) is None
        assert apart_in_levels({}, {"b": 5}, ["a", "b"]) is None

    def test_the_table_compares_pooled_development_with_each_evaluation(self, make, people):
        table = development_against_evaluation(make())
        before = people[people["part"] == "development"]
        for column, after in (
            (EXTERNAL, people[people["site"] == EXTERNAL]),
            ("All sites", people[people["part"] == "evaluation"]),
        ):
            a, b = before["age"], after["age"]
            age = (b.mean() - a.mean()) / sqrt((a.std() ** 2 + b.std() ** 2) / 2)
            assert row(table, "age")[column] == f"+{age:.2f}"
            p, q = ((x["outcome"] == "event").mean() for x in (before, after))
            outcome = (q - p) / sqrt((p * (1 - p) + q * (1 - q)) / 2)
            assert row(table, "outcome")[column].replace("−", "-") == f"{outcome:+.2f}"
        share = (before["outcome"] == "event").mean()
        assert row(table, "outcome")["Development"] == f"event {100 * share:.0f} %"

    def test_a_site_that_holds_a_level_back_does_not_count(self, make, people):
        kept = [x for x in lines(people, EXTERNAL) if x.level not in ("t2", "t4")]
        table = development_against_evaluation(make(**{EXTERNAL: cohort(kept, withheld=("stage",))}))
        assert row(table, "stage")[f"{EXTERNAL}"] == "withheld"


class TestBetweenHospitals:
    def test_scanners_and_prevalence_stand_side_by_side(self, make, people):
        results = make()
        table = site_heterogeneity(results)
        counts = people[people["site"] == "east"]["vendor"].value_counts()
        assert row_of(table, "north")["vendor"] == f"Siemens {(people['site'] == 'north').sum()}"
        assert row_of(table, "east")["vendor"] == f"GE {counts['GE']}, Philips {counts['Philips']}"
        east = next(site for site in results.sites if site.site == "east")
        assert row_of(table, "east")["Events"] == f"{100 * east.positives / (east.train + east.tune + east.test):.0f} %"
        assert table.apart == {2}

    def test_what_is_held_back_is_said(self, make, people):
        kept = [x for x in lines(people, "east") if x.level not in ("GE", "Philips")]
        table = site_heterogeneity(make(east=cohort(kept, withheld=("vendor",))))
        assert row_of(table, "east")["vendor"] == "others withheld"


def row_of(table, site: str) -> dict[str, str]:
    return row(table, site)


STUDY = {
    "study": "s",
    "title": "S",
    "endpoint": {
        "name": "good response",
        "column": "trg",
        "positive": ["yes"],
        "negative": ["no"],
        "scales": {"dworak": {"positive": ["4", "3"], "negative": ["2", "1", "0"]}},
    },
    "aggregation": "plain",
    "sites": [{"name": n, "role": "train"} for n in TRAINING] + [{"name": EXTERNAL, "role": "validate"}],
    "radiomics": {"source": "table"},
    "model": {"image": False},
    "quorum": {"minimum": 1},
    "seed": 7,
}


class TestSheets:
    def test_labels_say_what_was_declared_and_what_was_not(self, make, people):
        study = parse_study(STUDY)
        results = make(north=cohort(lines(people, "north"), scale="dworak"), east=None)
        table = labels(study, results)
        assert row(table, "Assessed by")["Value"] == "not declared"
        assert row(table, "Blinded to images and predictions")["Value"] == "not declared"
        assert row(table, "Scale at north")["Value"] == "dworak"
        assert row(table, "Scale at east")["Value"] == "not told"
        assert row(table, f"Scale at {EXTERNAL}")["Value"] == "the study's own words"
        assert "event: yes; no event: no" in row(table, "Outcomes in the study's own words")["Value"]
        days = people[people["site"] == "north"]["days"]
        measured = row(table, "Days, imaging to outcome, measured: mean (SD)")["Value"]
        assert measured.startswith(f"north {days.mean():.1f} ({days.std():.1f}); {EXTERNAL} ")
        sheet = {"assessor": "pathologist", "blinded": True, "interval": "within three months"}
        said = labels(parse_study({**STUDY, "evidence": {"labels": sheet}}), results)
        assert row(said, "Assessed by")["Value"] == "pathologist"
        assert row(said, "Blinded to images and predictions")["Value"] == "yes"
        assert row(said, "From images to outcome, as declared")["Value"] == "within three months"

    def test_splits_name_unit_seed_digest_and_what_cannot_be_seen(self, make):
        table = splits(parse_study(STUDY), make(east=None))
        assert row(table, "Seed")["Value"] == "7"
        assert row(table, "Splits of north (keyed digest)")["Value"] == "ab" * 32
        assert row(table, "Patients in more than one split of a site")["Value"] == "0"
        assert row(table, "No digest from")["Value"] == "east"
        assert "cannot be seen" in row(table, "Patients at more than one site")["Value"]
        assert row(table, "Sites whose every patient only evaluates")["Value"] == EXTERNAL

    def test_a_run_without_tables_has_none(self, results):
        assert table_one(results) is None
        assert missing(results) is None
        assert development_against_evaluation(results) is None
        assert site_heterogeneity(results) is None
        assert Sheet.of(results).columns == ()
        assert Column("north", "evaluation") not in Sheet.of(results).columns


class TestByPart:
    def test_each_part_is_a_table_of_its_own_without_levels_that_nobody_is_in(self):
        header = (
            "Variable",
            "north, development",
            "north, evaluation",
            "All sites, development",
            "All sites, evaluation",
        )
        rows = (
            ("sex: women", "9 (45 %)", "0 (0 %)", "9 (45 %)", "0 (0 %)"),
            ("vendor: GE", "0 (0 %)", "0 (0 %)", "0 (0 %)", "0 (0 %)"),
            ("stage", "withheld", "withheld", "–", "–"),
        )
        first, second = by_part(Table("Patients", header, rows))
        assert first.header == ("Variable", "north", "All sites")
        assert first.rows == (("sex: women", "9 (45 %)", "9 (45 %)"), ("stage", "withheld", "–"))
        assert second.rows == (("stage", "withheld", "–"),)
        assert second.caption.startswith("Evaluation")
