"""Two hospitals agree which features enter the model: real site processes' code, synthetic volumes, one process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from fedloupe.features import FeatureSettings
from fedloupe.messages import decode
from fedloupe.models import Preparation
from fedloupe.study import Study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.dataset import load_cohort
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest
from fedloupe_client.quality import chosen_rows, load_versions
from fedloupe_client.site.site import Site
from fedloupe_server.federation.conversation import SiteRefused
from fedloupe_server.federation.exchange import Arrival, Outbox
from fedloupe_server.federation.freezing import KEY
from fedloupe_server.federation.journal import JournalDamaged
from fedloupe_server.federation.quality import NothingStable
from fedloupe_server.federation.run import run_study
from fedloupe_server.hub.inprocess import inprocess_exchange
from sealing import hearing

SITES = {"north": "train", "south": "train", "coast": "validate"}
CASES = 24
MEAN, LIKE_MEAN, NOISE = (f"t1|original|firstorder|{name}" for name in ("mean", "root_mean_square", "skewness"))
SETTINGS = FeatureSettings(families=("firstorder",), log_sigmas_mm=(), wavelet=None, shape=False)


def study_of(**changes: Any) -> Study:
    content = {
        "study": "quality",
        "title": "Synthetic volumes",
        "synthetic": True,
        "endpoint": {"name": "response", "column": "response", "positive": ["yes"], "negative": ["no"]},
        "sequences": [{"name": "t1", "intensity": "physical"}],
        "aggregation": "plain",
        "sites": [{"name": name, "role": role} for name, role in SITES.items()],
        "imaging": {"spacing_mm": 2.0, "crop_mm": 16, "bias_correction": "none"},
        "radiomics": {"source": "computed", "settings": SETTINGS.model_dump(mode="json")},
        "model": {"components": 2, "image": False, "width": 8, "depth": 1, "heads": 2},
        "training": {"rounds": 1},
        "evaluation": {"local_baseline": False},
        "quorum": {"attempts": 1},
        "split": {"test": 0.25, "tune": 0.25},
        "quality": {"perturbations": [{"noise_sd": 1.0}, {"rotate_deg": 4}], "redundancy": 0.97},
    }
    return parse_study({**content, **changes})


@pytest.fixture(scope="module")
def homes(tmp_path_factory) -> Path:
    """Tumours that differ in brightness and in nothing else: their mean repeats, the skewness of their noise does not,
    and root mean square says what the mean says."""
    folder = tmp_path_factory.mktemp("homes")
    study = study_of()
    for number, site in enumerate(SITES):
        rng = np.random.default_rng(number)
        home = folder / site
        home.mkdir()
        for i in range(CASES):
            mask = np.zeros((16, 16, 16), np.uint8)
            mask[5:11, 5:11, 5:11] = 1
            array = 700 + 20 * rng.standard_normal(mask.shape) + 30 * i
            for kind, content in (("t1", array.astype(np.float32)), ("mask", mask)):
                image = sitk.GetImageFromArray(content)
                image.SetSpacing((2.0, 2.0, 2.0))
                sitk.WriteImage(image, str(home / f"C{i:02d}_{kind}.nii.gz"))
        rows = [f"C{i:02d},{'yes' if i % 2 else 'no'}" for i in range(CASES)]
        (home / "clinical.csv").write_text("\n".join(["case,response", *rows]) + "\n")
        source = {
            "format": "nifti",
            "root": str(home),
            "clinical": {"file": "clinical.csv"},
            "files": {"t1": "{case}_t1.nii.gz"},
            "mask": "{case}_mask.nii.gz",
        }
        (home / "site.yaml").write_text(yaml.safe_dump({"site": site, "source": source}))
        (home / "policy.yaml").write_text("{minimum_cohort: 5, minimum_cell: 2}")
        (home / "secret.key").touch(mode=0o600)
        (home / "secret.key").write_bytes(bytes(32))  # pseudonyms, and so splits, that are the same in every run
        ingest(load_site(home), study, home)
        approve(home, study, by="test")
    return folder


class Listening:
    """An exchange that remembers which kinds each site was asked."""

    def __init__(self, homes: Path, run_dir: Path) -> None:
        self._exchange = inprocess_exchange({site: hearing(Site(homes / site), run_dir) for site in SITES})
        self.asked: list[tuple[str, str]] = []

    def __call__(self, outbox: Outbox, timeout_s: float) -> Iterator[Arrival | None]:
        encode = outbox.encode

        def heard(site: str) -> bytes:
            blob = encode(site)
            self.asked.append((site, decode(blob).kind))
            return blob

        outbox.encode = heard
        return self._exchange(outbox, timeout_s)

    def sites_asked(self, *kinds: str) -> set[str]:
        return {site for site, kind in self.asked if kind in kinds}


@pytest.fixture(scope="module")
def finished(homes, tmp_path_factory):
    """A run to its end: results, folder, exchange."""
    run_dir = tmp_path_factory.mktemp("runs") / "first"
    exchange = Listening(homes, run_dir)
    return run_study(study_of(), exchange, run_dir), run_dir, exchange


def copied(run_dir: Path, folder: Path) -> Path:
    """A run in another folder, with its coordinator's key beside it."""
    shutil.copy2(run_dir.parent / KEY, folder / KEY)
    return Path(shutil.copytree(run_dir, folder / run_dir.name))


def listed(run_dir: Path) -> dict[str, dict[str, Any]]:
    return {v["name"]: v for v in json.loads((run_dir / "quality.json").read_text())["features"]}


class TestAgreement:
    def test_what_does_not_repeat_and_what_is_said_twice_is_dropped(self, finished):
        found = listed(finished[1])
        assert found[NOISE]["why"] == "unstable" and found[NOISE]["icc"] < 0.75
        (kept,) = [name for name, verdict in found.items() if not verdict["why"]]
        for name in {MEAN, LIKE_MEAN} - {kept}:
            assert (found[name]["why"], found[name]["like"]) == ("redundant", kept)

    def test_the_correlation_is_that_of_both_sites_patients_pooled(self, finished, homes):
        study, values = study_of(), []
        for site in ("north", "south"):
            cohort = load_cohort(homes / site, study, site)
            rows = chosen_rows(cohort, study)
            cases = [cohort.cases[row] for row in rows]
            values.append(load_versions(homes / site, study, cases, cohort.features[rows]))
        place = cohort.names.index(NOISE)
        table = np.concatenate(values)[:, place]
        n, k = table.shape
        between, within = k * table.mean(axis=1).var(ddof=1), table.var(axis=1, ddof=1).mean()
        assert listed(finished[1])[NOISE]["icc"] == pytest.approx(
            (between - within) / (between + (k - 1) * within), abs=1e-6
        )
        assert listed(finished[1])[NOISE]["patients"] == n

    def test_a_dropped_feature_contributes_nothing_to_the_model(self, finished):
        preparation, found = Preparation.read(finished[1] / "preparation.safetensors"), listed(finished[1])
        kept = np.array([v["why"] == "" for v in found.values()])
        assert (preparation.scale > 0).tolist() == kept.tolist()
        assert not np.abs(preparation.projection[~kept]).max() > 1e-6
        features = np.random.default_rng(0).standard_normal((5, len(kept)))
        moved = features + 100 * ~kept
        columns = ("t1",) * len(kept)
        np.testing.assert_array_equal(preparation.apply(features, columns)[0], preparation.apply(moved, columns)[0])

    def test_the_list_is_frozen_and_summed_up(self, finished):
        results, run_dir, _ = finished
        frozen = json.loads((run_dir / "frozen.json").read_text())
        assert results.quality.digest == frozen["quality"]
        (row,) = results.quality.by_family
        assert (row.group, row.offered) == ("firstorder", 18)
        assert row.offered > row.stable > row.kept >= 1
        assert sum(results.quality.reasons.values()) == row.offered - row.kept

    def test_a_site_that_only_validates_is_never_asked(self, finished):
        assert finished[2].sites_asked("stability", "redundancy", "describe") == {"north", "south"}


class TestGoingOn:
    def test_a_list_that_was_agreed_holds_after_a_crash(self, finished, homes, tmp_path):
        run_dir = copied(finished[1], tmp_path)
        before = (run_dir / "quality.json").read_bytes()
        (run_dir / "preparation.safetensors").unlink()
        exchange = Listening(homes, run_dir)
        again = run_study(study_of(), exchange, run_dir)
        assert not exchange.sites_asked("stability", "redundancy")
        assert (run_dir / "quality.json").read_bytes() == before
        assert again.frozen == finished[0].frozen

    def test_a_list_that_changed_after_the_freeze_stops_the_run(self, finished, homes, tmp_path):
        run_dir = copied(finished[1], tmp_path)
        path = run_dir / "quality.json"
        path.write_text(path.read_text().replace('"patients": ', '"patients": 1', 1))
        with pytest.raises(JournalDamaged):
            run_study(study_of(), Listening(homes, run_dir), run_dir)

    def test_a_list_that_cannot_be_read_is_named(self, finished, homes, tmp_path):
        run_dir = copied(finished[1], tmp_path)
        (run_dir / "preparation.safetensors").unlink()
        (run_dir / "quality.json").write_text("{}")
        with pytest.raises(JournalDamaged, match="list of features"):
            run_study(study_of(), Listening(homes, run_dir), run_dir)


class TestRefusals:
    def test_a_cohort_below_the_policys_least_gives_no_sums(self, homes, tmp_path):
        there = Path(shutil.copytree(homes, tmp_path / "homes"))
        (there / "north" / "policy.yaml").write_text("{minimum_cohort: 50, minimum_cell: 2}")
        with pytest.raises(SiteRefused, match="FL-511"):
            run_study(study_of(), Listening(there, tmp_path / "second"), tmp_path / "second")

    def test_a_study_whose_rule_nothing_passes_says_so(self, homes, tmp_path):
        there = Path(shutil.copytree(homes, tmp_path / "homes"))
        study = study_of(quality={"perturbations": [{"noise_sd": 2.0}], "minimum_icc": 1.0})
        for site in SITES:
            approve(there / site, study, by="test")
        with pytest.raises(NothingStable, match="unstable"):
            run_study(study, Listening(there, tmp_path / "second"), tmp_path / "second")
