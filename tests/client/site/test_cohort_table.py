"""Who a site's patients are: counted from a real store, as a pandas group-by of the site's own table says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import yaml

from fedloupe import __version__
from fedloupe.messages import CohortReply, CohortRequest, decode, encode
from fedloupe.study import Study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.dataset import load_cohort
from fedloupe_client.dataset.cohort import GroupsUnknown
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest, load_store
from fedloupe_client.site import cohort_table
from fedloupe_client.site.site import Site

CASES = 40
SUBGROUPS = [
    {"name": "age", "column": "age", "cuts": [60, 70]},
    {"name": "sex", "column": "sex", "levels": {"women": ["f"], "men": ["m"]}},
    {"name": "stage", "column": "stage", "levels": {"early": ["T2"], "late": ["T3", "T4"]}},
    {"name": "scanner", "column": "scanner"},
    {"name": "smoker", "column": "smoker"},
    {"name": "vendor", "header": "vendor"},
]


def study_of(**changes: Any) -> Study:
    content: dict[str, Any] = {
        "study": "tiny",
        "title": "Tiny",
        "endpoint": {
            "name": "response",
            "column": "trg",
            "scales": {"dworak": {"positive": ["4", "3"], "negative": ["2", "1", "0"]}},
        },
        "clinical": [
            {"name": "age", "column": "age", "centre": 63, "scale": 11},
            {"name": "stage", "column": "stage", "levels": {"T2": -1, "T3": 0, "T4": 1}},
        ],
        "aggregation": "plain",
        "sites": [{"name": "north", "role": "train"}, {"name": "island", "role": "validate"}],
        "quorum": {"minimum": 1},
        "radiomics": {"source": "table"},
        "model": {"image": False},
        "evidence": {"subgroups": SUBGROUPS},
    }
    return parse_study({**content, **changes})


@pytest.fixture(scope="module")
def study() -> Study:
    return study_of()


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    made = pd.DataFrame({"case": [f"c{i:02d}x" for i in range(CASES)], "f": rng.standard_normal(CASES)})
    made["trg"] = [f"TRG {g}" for g in rng.permutation(np.tile([0, 1, 2, 3, 4], CASES // 5))]
    made["age"] = rng.integers(40, 85, CASES).astype(float)
    made.loc[[3, 9, 21], "age"] = np.nan
    made["stage"] = rng.choice(["T2", "T3", "T4"], CASES)
    made["sex"] = rng.choice(["F", "M", ""], CASES)
    made["scanner"] = rng.choice(["Skyra", "Avanto"], CASES)
    made["mri"], made["surgery"] = "2020-01-01", [f"2020-03-{d:02d}" for d in rng.integers(1, 28, CASES)]
    made.loc[[2, 5], "surgery"] = ""
    return made


@pytest.fixture(scope="module")
def home(tmp_path_factory, table, study) -> Path:
    return hospital(tmp_path_factory.mktemp("north"), table, study, "north")


def hospital(folder: Path, table: pd.DataFrame, study: Study, site: str) -> Path:
    table.drop(columns="f").to_csv(folder / "clinical.csv", index=False)
    table[["case", "f"]].to_csv(folder / "features.csv", index=False)
    dates = {"imaging": "mri", "outcome": "surgery"}
    clinical = {"file": "clinical.csv", "scale": "dworak", "dates": dates}
    source = {"format": "table", "root": ".", "clinical": clinical, "features": "features.csv"}
    (folder / "site.yaml").write_text(yaml.safe_dump({"site": site, "source": source}))
    (folder / "policy.yaml").write_text("minimum_cell: 1\n")  # what is held back is the gate's tests' business
    ingest(load_site(folder), study, folder)
    return folder


def described(home: Path, study: Study, site: str = "north"):
    cohort = load_cohort(home, study, site)
    header = {"version": "0.1.0", "fingerprint": study.fingerprint, "run": "r", "site": site}
    return cohort, cohort_table.answer(header, study, cohort, home)


def of_part(home: Path, table: pd.DataFrame, cohort, part: str) -> pd.DataFrame:
    """The rows of the hospital's own table whose cases are in this part."""
    listed = pd.read_csv(home / "ingest-local.csv").set_index("case")["local_id"]
    tests = {listed[case] for case, split in zip(cohort.cases, cohort.split, strict=True) if split == "test"}
    return table[table["case"].isin(tests) == (part == "evaluation")]


def levels(reply, variable: str, part: str) -> dict[str, int]:
    return {r.level: r.count for r in reply.lines if (r.variable, r.part) == (variable, part) and r.level is not None}


def missing(reply, variable: str, part: str) -> set[int]:
    return {r.missing for r in reply.lines if (r.variable, r.part) == (variable, part)}


class TestAgainstTheTable:
    @pytest.mark.parametrize("part", ["development", "evaluation"])
    def test_numbers_are_in_the_tables_own_units(self, home, study, table, part):
        cohort, reply = described(home, study)
        ages = of_part(home, table, cohort, part)["age"]
        (line,) = [r for r in reply.lines if (r.variable, r.part, r.level) == ("age", part, None)]
        assert (line.patients, line.missing) == (ages.count(), ages.isna().sum())
        assert (line.mean, line.sd) == pytest.approx((ages.mean(), ages.std(ddof=1)))

    @pytest.mark.parametrize("part", ["development", "evaluation"])
    def test_levels_count_the_patients_in_them(self, home, study, table, part):
        cohort, reply = described(home, study)
        here = of_part(home, table, cohort, part)
        grades = here["trg"].str[-1].value_counts()
        assert levels(reply, "grade", part) == {g: grades.get(g, 0) for g in "43210"}
        events = int(here["trg"].str[-1].isin(["4", "3"]).sum())
        assert levels(reply, "outcome", part) == {"event": events, "no event": len(here) - events}
        cut = pd.cut(here["age"], [-np.inf, 60, 70, np.inf], right=False, labels=["<60", "60-<70", ">=70"])
        assert levels(reply, "age", part) == cut.value_counts(sort=False).to_dict()
        assert missing(reply, "sex", part) == {int((here["sex"] == "").sum())}
        assert levels(reply, "sex", part) == {"women": (here["sex"] == "F").sum(), "men": (here["sex"] == "M").sum()}
        assert levels(reply, "scanner", part) == here["scanner"].value_counts().sort_index().to_dict()
        stages = here["stage"].value_counts()
        assert levels(reply, "stage", part) == {s: stages.get(s, 0) for s in ("T2", "T3", "T4")}

    def test_intervals_are_days(self, home, study, table):
        cohort, reply = described(home, study)
        here = of_part(home, table, cohort, "development")
        days = (pd.to_datetime(here["surgery"]) - pd.to_datetime(here["mri"])).dt.days
        (line,) = [r for r in reply.lines if r.variable == "interval imaging_to_outcome" and r.part == "development"]
        assert (line.mean, line.sd) == pytest.approx((days.mean(), days.std(ddof=1)))
        assert line.missing == days.isna().sum()

    def test_what_a_site_has_not_is_missing_in_everybody(self, home, study):
        _, reply = described(home, study)
        vendor = [r for r in reply.lines if r.variable == "vendor" and r.part == "evaluation"]
        assert {(r.patients, r.count) for r in vendor} == {(0, 0)}
        (smoker,) = [r for r in reply.lines if r.variable == "smoker" and r.part == "evaluation"]
        assert (smoker.patients, smoker.level, smoker.mean) == (0, None, None)


class TestWhole:
    def test_counts_scale_and_splits(self, home, study):
        cohort, reply = described(home, study)
        assert (reply.candidates, reply.patients, reply.shared, reply.scale) == (CASES, CASES, 0, "dworak")
        assert described(home, study)[1].splits == reply.splits
        other = described(home, study_of(seed=2))[1]
        assert other.splits != reply.splits
        key = (home / "secret.key").read_bytes()
        records = load_store(home).ready
        assert cohort_table.splits_digest(records, cohort.split, key) == reply.splits
        assert cohort_table.splits_digest(records, cohort.split, b"another") != reply.splits

    def test_a_patient_with_cases_in_two_splits_is_counted(self, home, study):
        path = home / "store" / "index.json"
        before, index = path.read_text(), json.loads(path.read_text())
        cohort, _ = described(home, study)
        places = [int(np.flatnonzero(cohort.split == name)[0]) for name in ("train", "test")]
        of_case = {record["case"]: record for record in index["records"]}
        first, second = (of_case[cohort.cases[place]] for place in places)
        second["patient"] = first["patient"]
        try:
            path.write_text(json.dumps(index))
            _, reply = described(home, study)
        finally:
            path.write_text(before)
        assert (reply.patients, reply.shared) == (CASES - 1, 1)

    def test_a_validating_site_has_one_part(self, tmp_path, study, table):
        _, reply = described(hospital(tmp_path, table, study, "island"), study, "island")
        assert {line.part for line in reply.lines} == {"evaluation"}
        assert sum(levels(reply, "outcome", "evaluation").values()) == CASES


class TestOldStores:
    def test_are_to_be_ingested_again(self, tmp_path, study, table):
        without = {name: value for name, value in study.model_dump(mode="json").items() if name != "evidence"}
        old = parse_study(without)
        home = hospital(tmp_path, table, old, "north")
        assert load_cohort(home, old, "north").grades == ()
        with pytest.raises(GroupsUnknown, match="grades") as error:
            load_cohort(home, study, "north")
        assert "ingest" in error.value.remedy
        ingest(load_site(home), study, home)
        assert set(load_cohort(home, study, "north").groups) == {group["name"] for group in SUBGROUPS}

    def test_for_other_groups_or_other_levels_are_refused(self, home):
        more = study_of(evidence={"subgroups": [*SUBGROUPS, {"name": "bmi", "column": "bmi", "cuts": [30]}]})
        with pytest.raises(GroupsUnknown, match="`bmi`"):
            load_cohort(home, more, "north")
        other = study_of(evidence={"subgroups": [{"name": "age", "column": "age", "cuts": [65]}]})
        with pytest.raises(GroupsUnknown, match="other levels of `age`"):
            load_cohort(home, other, "north")

    def test_the_digest_of_the_data_changes_with_a_level_or_a_grade(self, home, study):
        cohort = load_cohort(home, study, "north")
        first, *rest = cohort.groups["sex"]
        moved = {**cohort.groups, "sex": ("men" if first == "women" else "women", *rest)}
        others = (replace(cohort, groups=moved), replace(cohort, grades=("5", *cohort.grades[1:])))
        assert len({one.digest(b"key") for one in (cohort, *others)}) == 3


class TestAtTheSite:
    def ask(self, home, study, site="north"):
        header = {"version": __version__, "fingerprint": study.fingerprint, "run": "r", "site": site}
        return decode(Site(home).answer(encode(CohortRequest(**header))))

    def test_small_groups_stay_and_large_ones_leave(self, home, study, table):
        approve(home, study, by="officer")
        (home / "policy.yaml").write_text("minimum_cell: 5\n")
        reply = self.ask(home, study)
        assert isinstance(reply, CohortReply)
        assert all(line.count == 0 or line.count >= 5 for line in reply.lines if line.count is not None)
        assert all(n == 0 or n >= 5 for line in reply.lines for n in (line.patients, line.missing))
        cohort = load_cohort(home, study, "north")
        told = [
            (line.part, line.level, line.count) for line in reply.lines if line.variable == "scanner" and line.count
        ]
        assert told
        for part, level, count in told:
            assert count == (of_part(home, table, cohort, part)["scanner"] == level).sum()
        for part in ("development", "evaluation"):  # three ages are unknown; in which part, the site's secret decides
            here = of_part(home, table, cohort, part)
            assert bool(missing(reply, "age", part)) == (here["age"].isna().sum() == 0)
            grades = levels(reply, "grade", part)
            assert sum(grades.values()) == len(here) or "grade" in reply.withheld
        assert "age" in reply.withheld

    def test_a_harmonising_study_is_answered_before_it_harmonises(self, tmp_path, table):
        study = study_of(harmonisation={"covariates": []}, sites=[{"name": n, "role": "train"} for n in ("north", "b")])
        home = hospital(tmp_path, table, study, "north")
        approve(home, study, by="officer")
        assert isinstance(self.ask(home, study), CohortReply)


def test_sequences_are_present_or_absent(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(6):
        for name in ("t2w", "adc") if number % 3 else ("t2w",):
            write(tmp_path / f"P{number}_{name}.nii.gz", rng.integers(0, 500, (6, 8, 8)).astype(np.int16))
        mask = np.zeros((6, 8, 8), np.uint8)
        mask[2:4, 2:5, 2:5] = 1
        write(tmp_path / f"P{number}_mask.nii.gz", mask)
    (tmp_path / "clinical.csv").write_text("case,trg\n" + "".join(f"P{n},{n % 2}\n" for n in range(6)))
    study = study_of(
        endpoint={"name": "r", "column": "trg", "positive": ["1"], "negative": ["0"]},
        clinical=[],
        sequences=[{"name": "t2w"}, {"name": "adc", "required": False}],
        radiomics={"source": "none"},
        model={"image": True},
        evidence={},
    )
    files = {name: f"{{case}}_{name}.nii.gz" for name in ("t2w", "adc")}
    clinical = {"file": "clinical.csv"}
    source = {"format": "nifti", "root": ".", "clinical": clinical, "files": files, "mask": "{case}_mask.nii.gz"}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump({"site": "island", "source": source}))
    ingest(load_site(tmp_path), study, tmp_path)
    records = load_store(tmp_path).ready
    cohort = type(
        "Some", (), {"labels": np.arange(6) % 2, "split": np.full(6, "test"), "grades": ["0", "1"] * 3, "groups": {}}
    )
    lines = cohort_table.describe(study, cohort, records)
    found = {(line.variable, line.level): line.count for line in lines}
    assert (found["sequence t2w", "present"], found["sequence t2w", "absent"]) == (6, 0)
    assert (found["sequence adc", "present"], found["sequence adc", "absent"]) == (4, 2)
    assert "grade" not in {variable for variable, _ in found}, "two grades are the outcome itself"


def write(path: Path, array: np.ndarray) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
