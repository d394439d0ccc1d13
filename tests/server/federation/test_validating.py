"""A sealed run from its folder alone: sealed or checked, and validated later by sites that were not in its study."""

from __future__ import annotations

import json

import pytest
from tests.server.federation.conftest import PATIENTS

from fedloupe.models import digest
from fedloupe.signing import Signer
from fedloupe_server.evidence import wording
from fedloupe_server.evidence.results import Results, Sealed
from fedloupe_server.federation import run_study
from fedloupe_server.federation.columns import FeaturesDiffer
from fedloupe_server.federation.freezing import NotExternal, SealBroken, read_seal, signer_beside
from fedloupe_server.federation.frozen import NotSealable, freeze_run, read_frozen
from fedloupe_server.federation.run import freeze_study
from fedloupe_server.federation.validating import to_validate, validate_run

ROLES = [{"name": n, "role": "train"} for n in ("north", "south", "east")] + [{"name": "coast", "role": "validate"}]
RICH = {"clinical_baseline": True, "trees": {"rounds": 2}}
AGE = [{"name": "age", "column": "age"}]


@pytest.fixture
def further(make_study):
    """The study with one more hospital that only validates."""

    def make(**changes):
        more = [*ROLES, {"name": "isle", "role": "validate"}]
        return make_study(**{"sites": more, "title": "With one more", **changes})

    return make


@pytest.fixture
def hospitals(new_hospitals):
    return new_hospitals({**PATIENTS, "isle": 15})


class TestFromItsFolder:
    def test_what_is_read_seals_as_what_was_fitted(self, make_study, hospitals, run_dir):
        run_study(make_study(clinical=AGE, evaluation=RICH), hospitals, run_dir)
        seal = read_seal(run_dir)
        assert read_frozen(run_dir).seal.differing(seal) == ("coordinator",)
        assert freeze_run(run_dir, signer_beside(run_dir)) == seal

    def test_a_run_that_was_not_sealed_is(self, study, hospitals, run_dir):
        seal = freeze_study(study, hospitals, run_dir)
        (run_dir / "seal.json").unlink()
        assert freeze_run(run_dir, signer_beside(run_dir)) == seal == read_seal(run_dir)

    def test_what_changed_since_is_named(self, study, hospitals, run_dir):
        freeze_study(study, hospitals, run_dir)
        path = run_dir / "threshold.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "threshold": 0.123}))
        with pytest.raises(SealBroken, match="threshold"):
            freeze_run(run_dir, signer_beside(run_dir))

    def test_what_is_not_fitted_yet_is_named(self, study, hospitals, run_dir, tmp_path):
        key = Signer.make(tmp_path / "a.key")
        with pytest.raises(NotSealable, match=r"study\.json"):
            freeze_run(tmp_path, key)
        freeze_study(study, hospitals, run_dir)
        (run_dir / "rounds" / "0003.json").unlink()
        with pytest.raises(NotSealable, match="round 3"):
            freeze_run(run_dir, key)


class TestValidatedLater:
    def test_further_sites_score_what_was_sealed_and_nobody_else_is_asked(
        self, make_study, further, hospitals, run_dir, tmp_path
    ):
        before = run_study(make_study(clinical=AGE, evaluation=RICH), hospitals, run_dir)
        seal = read_seal(run_dir)
        hospitals.log.clear()
        study = further(clinical=AGE, evaluation=RICH)
        results = validate_run(run_dir, study, hospitals, tmp_path / "trial-validated")
        assert {(r.site, r.run, r.fingerprint) for r in hospitals.log} == {
            ("isle", "trial-validated", study.fingerprint)
        }
        assert [r.kind for r in hospitals.log][:3] == ["hello", "open", "prepare"]
        scored = {r.label: digest(r.weights) for r in hospitals.asked("evaluate")}
        assert scored == {label: model.weights for label, model in seal.models.items()}
        assert [s.site for s in results.sites] == ["north", "south", "east", "coast", "isle"]
        assert results.sites[:4] == before.sites
        assert (results.sealed.run, results.sealed.fingerprint) == ("trial", before.fingerprint)
        assert (results.run, results.fingerprint) == ("trial-validated", study.fingerprint)
        on_disk = (tmp_path / "trial-validated" / "results.json").read_bytes()
        assert Results.model_validate_json(on_disk) == results

    def test_what_was_validated_before_is_taken_over_and_not_asked_again(
        self, make_study, study, further, new_hospitals, run_dir, tmp_path
    ):
        hospitals = new_hospitals({**PATIENTS, "isle": 15, "cape": 12})
        run_study(study, hospitals, run_dir)
        first = validate_run(run_dir, further(), hospitals, tmp_path / "later")
        hospitals.log.clear()
        both = [*ROLES, *({"name": name, "role": "validate"} for name in ("isle", "cape"))]
        results = validate_run(run_dir, further(sites=both, title="With two more"), hospitals, tmp_path / "latest")
        assert {r.site for r in hospitals.log} == {"cape"}
        assert [s.site for s in results.sites] == ["north", "south", "east", "coast", "isle", "cape"]
        assert results.sites[:5] == first.sites
        alone = [*ROLES, {"name": "cape", "role": "validate"}]
        assert [s.site for s in validate_run(run_dir, further(sites=alone), hospitals, tmp_path / "x" / "y").sites] == [
            "north", "south", "east", "coast", "cape",
        ], "and no site that the study does not name"  # fmt: skip
        with pytest.raises(NotSealable, match="no site is left"):
            validate_run(run_dir, further(), hospitals, tmp_path / "again")

        def of_another_seal(path):
            content = json.loads(path.read_text())
            path.write_text(json.dumps({**content, "sealed": {**content["sealed"], "digest": "0" * 64}}))

        for name in ("later", "latest"):
            of_another_seal(tmp_path / name / "results.json")
        assert to_validate(run_dir, further(sites=both), tmp_path / "again") == ("isle", "cape")

    def test_sites_stand_in_the_studys_order_whatever_folders_are_called(
        self, study, further, new_hospitals, run_dir, tmp_path
    ):
        hospitals = new_hospitals({**PATIENTS, "isle": 15, "cape": 12})
        freeze_study(study, hospitals, run_dir)
        of = {name: [*ROLES, {"name": name, "role": "validate"}] for name in ("isle", "cape")}
        validate_run(run_dir, further(sites=of["cape"]), hospitals, tmp_path / "a")
        both = further(sites=[*of["isle"], of["cape"][-1]])
        results = validate_run(run_dir, both, hospitals, tmp_path / "z")
        assert [s.site for s in results.sites] == ["coast", "isle", "cape"]
        assert results.sealed == Sealed.of(read_seal(run_dir))

    def test_the_sealed_run_is_found_from_behind_a_link(self, study, further, hospitals, run_dir, tmp_path):
        freeze_study(study, hospitals, run_dir)
        (tmp_path / "far" / "disk").mkdir(parents=True)
        (tmp_path / "near").symlink_to(tmp_path / "far" / "disk")
        validate_run(run_dir, further(), hospitals, tmp_path / "near" / "later")
        folder = tmp_path / "far" / "disk" / "later"
        assert (folder / (folder / "sealed-run.txt").read_text().strip()).resolve() == run_dir.resolve()

    def test_not_in_the_sealed_study_itself(self, study, hospitals, run_dir, tmp_path):
        freeze_study(study, hospitals, run_dir)
        hospitals.log.clear()
        with pytest.raises(NotSealable, match="sealed study itself"):
            validate_run(run_dir, study, hospitals, tmp_path / "later")
        assert hospitals.log == []

    def test_a_run_that_stopped_when_it_was_frozen_is_validated_by_all_who_only_validate(
        self, study, further, hospitals, run_dir, tmp_path
    ):
        freeze_study(study, hospitals, run_dir)
        results = validate_run(run_dir, further(), hospitals, tmp_path / "later")
        assert [s.site for s in results.sites] == ["coast", "isle"]
        assert wording.asked(results)[1].startswith("3 sites trained, 2 sites only validated; ")
        assert not hospitals.asked("evaluate", site="north")

    @pytest.mark.parametrize("changes", [{"seed": 2}, {"split": {"test": 0.3}}])
    def test_not_in_a_study_that_is_another(self, study, further, hospitals, run_dir, tmp_path, changes):
        run_study(study, hospitals, run_dir)
        hospitals.log.clear()
        with pytest.raises(NotSealable, match="differs"):
            validate_run(run_dir, further(**changes), hospitals, tmp_path / "later")
        assert hospitals.log == []

    def test_not_twice_not_without_a_seal_and_not_under_the_sealed_name(
        self, study, further, hospitals, run_dir, tmp_path
    ):
        run_study(study, hospitals, run_dir)
        with pytest.raises(NotSealable, match="no site is left"):
            validate_run(run_dir, study, hospitals, tmp_path / "later")
        with pytest.raises(NotSealable, match="name"):
            validate_run(run_dir, further(), hospitals, tmp_path / "elsewhere" / "trial")
        (run_dir / "seal.json").unlink()
        with pytest.raises(NotSealable, match="no seal"):
            validate_run(run_dir, further(), hospitals, tmp_path / "later")

    def test_not_with_what_changed_since(self, study, further, hospitals, run_dir, tmp_path):
        run_study(study, hospitals, run_dir)
        path = run_dir / "threshold.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "threshold": 0.123}))
        hospitals.log.clear()
        with pytest.raises(SealBroken, match="threshold"):
            validate_run(run_dir, further(), hospitals, tmp_path / "later")
        assert hospitals.log == []

    def test_not_by_a_site_that_took_part_or_has_other_columns(self, study, further, hospitals, run_dir, tmp_path):
        run_study(study, hospitals, run_dir)
        hospitals.hook = lambda r: hospitals.failure(r, "FL-543", "took part") if r.kind == "open" else ...
        with pytest.raises(NotExternal, match="isle"):
            validate_run(run_dir, further(), hospitals, tmp_path / "later")
        hospitals.hook = lambda r: (
            hospitals.answer(r).model_copy(update={"groups": ("t2w",) * 6}) if r.kind == "hello" else ...
        )
        with pytest.raises(FeaturesDiffer, match="isle"):
            validate_run(run_dir, further(), hospitals, tmp_path / "later")
