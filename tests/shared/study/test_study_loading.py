"""From a file to a study: each way of failing has its own words."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import yaml

from fedloupe.study import StudyInvalid, StudyUnreadable, load_study
from fedloupe.study.loading import read_yaml

CONFIGS = Path(__file__).parents[3] / "configs"


def _load_as_nobody(file: Path, out: Connection) -> None:
    if os.geteuid() == 0:  # permission bits do not bind root
        os.setuid(65534)
    try:
        load_study(file)
        out.send("loaded")
    except StudyUnreadable as error:
        out.send(str(error))


class TestUnreadable:
    def test_absence_permission_and_damage_are_three_messages(self, tmp_path):
        absent, closed, damaged = (tmp_path / f"{n}.yaml" for n in ("absent", "closed", "damaged"))
        damaged.write_text("study: [a\n")
        closed.write_text("study: a\n")
        closed.chmod(0)
        here, there = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(target=_load_as_nobody, args=(closed, there))
        child.start()
        assert here.poll(60)
        refused = here.recv()
        child.join()
        with pytest.raises(StudyUnreadable, match="there is no such file") as missing:
            load_study(absent)
        with pytest.raises(StudyUnreadable, match="not YAML") as broken:
            load_study(damaged)
        assert "may not read" in refused and str(closed) in refused
        assert str(absent) in str(missing.value) and str(damaged) in str(broken.value)
        assert "line 1" in str(broken.value) or "line 2" in str(broken.value)

    def test_a_folder_is_not_a_study(self, tmp_path):
        with pytest.raises(StudyUnreadable, match="reading failed"):
            load_study(tmp_path)

    def test_a_key_given_twice_is_refused_with_its_line(self, tmp_path):
        file = tmp_path / "twice.yaml"
        file.write_text("study: a\ntraining:\n  rounds: 2\n  rounds: 3\n")
        with pytest.raises(StudyUnreadable, match=r"`rounds` is given twice.*line 4"):
            load_study(file)

    @pytest.mark.parametrize(
        "content",
        [
            b"a: \xe9",
            b"a: \x00",
            b"? [a, b]\n: c\n",
            b"day: 2026-02-30\n",
            b"number: 0b_\n",
            b"[" * 5000,
            b"a: !!python/object/apply:os.getcwd []\n",
            b"a: *nobody\n",
        ],
        ids=[
            "latin-1",
            "nul",
            "list as key",
            "impossible date",
            "empty number",
            "bottomless",
            "code",
            "unknown anchor",
        ],
    )
    def test_nothing_but_yaml_is_read_and_nothing_crashes(self, tmp_path, content):
        file = tmp_path / "odd.yaml"
        file.write_bytes(content)
        with pytest.raises(StudyUnreadable, match=r"odd\.yaml"):
            read_yaml(file)

    def test_merge_keys_are_read_and_may_be_overridden(self, tmp_path):
        file = tmp_path / "merge.yaml"
        file.write_text("a: &a {x: 1, y: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b, x: 3}\n")
        assert read_yaml(file) == {"a": {"x": 1, "y": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 3, "y": 2}}


class TestSettings:
    def test_a_settings_file_beside_the_study_is_embedded(self, tmp_path, content):
        settings = content["radiomics"]["settings"]
        inline = tmp_path / "inline.yaml"
        inline.write_text(yaml.safe_dump(content))
        content["radiomics"]["settings"] = "features.yaml"
        (tmp_path / "named.yaml").write_text(yaml.safe_dump(content))
        (tmp_path / "features.yaml").write_text(yaml.safe_dump(settings))
        named = load_study(tmp_path / "named.yaml")
        assert named.radiomics.settings == settings
        assert named.fingerprint == load_study(inline).fingerprint
        (tmp_path / "features.yaml").write_text(yaml.safe_dump({**settings, "version": 2}))
        assert load_study(tmp_path / "named.yaml").fingerprint != named.fingerprint

    def test_an_absent_settings_file_is_named(self, tmp_path, content):
        content["radiomics"]["settings"] = "features.yaml"
        (tmp_path / "named.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(StudyUnreadable, match=r"features\.yaml"):
            load_study(tmp_path / "named.yaml")

    def test_settings_that_are_no_mapping_are_refused(self, tmp_path, content):
        content["radiomics"]["settings"] = "features.yaml"
        (tmp_path / "named.yaml").write_text(yaml.safe_dump(content))
        (tmp_path / "features.yaml").write_text("- 1\n")
        with pytest.raises(StudyInvalid, match=r"radiomics\.settings"):
            load_study(tmp_path / "named.yaml")


class TestConfigs:
    @pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda f: f.name)
    def test_every_file_is_yaml_and_every_study_loads(self, file):
        content = read_yaml(file)
        assert isinstance(content, dict)
        if "study" in content:
            study = load_study(file)
            assert study.study == content["study"]
            assert study.radiomics.source != "computed" or isinstance(study.radiomics.settings, dict)

    def test_the_demo_is_synthetic_and_says_so(self):
        assert load_study(CONFIGS / "demo.yaml").synthetic
