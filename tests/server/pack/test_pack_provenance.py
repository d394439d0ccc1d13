"""Provenance of runs as tests make them: what a private run spent, what features rest on, and no date anywhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

from fedloupe_server.pack.provenance import IBSI, provenance
from fedloupe_server.simulation.demo import demo_study

ROOT = Path(__file__).parents[3]


def test_what_is_said_of_ibsi_is_what_the_page_on_features_says():
    row = next(line for line in (ROOT / "docs" / "radiomics.md").read_text().splitlines() if line.startswith("| all |"))
    cells = [tuple(int(n) for n in re.findall(r"\d+", cell)) for cell in row.split("|")[2:-1]]
    assert [(within, offered) for _, offered, within in cells] == list(IBSI.values())


class TestStatement:
    def test_features_of_the_demo_name_engine_settings_and_agreement(self, rich):
        made = provenance(rich, demo_study(1), {})
        features = made["predicate"]["buildDefinition"]["internalParameters"]["features"]
        assert features["source"] == "computed" and len(features["settings"]) == 64
        assert features["engine"].endswith(rich.version)
        agreed = features["ibsi-1 values within tolerance, of those with a consensus"]
        assert agreed["digital phantom"] == "482 of 482" and len(agreed) == 4

    def test_epsilon_of_each_site_stands_in_it(self, rich):
        sites = tuple(s.model_copy(update={"epsilon": 3.5 if s.role == "train" else None}) for s in rich.sites)
        private = rich.model_copy(update={"sites": sites, "privacy": "dp-sgd, epsilon 8"})
        said = provenance(private, demo_study(1, epsilon=8.0), {})["predicate"]["privacy"]
        assert said["guarantee"] == "dp-sgd"
        assert set(said["epsilon-by-site"].values()) == {3.5}

    def test_it_holds_no_date_and_is_the_same_twice(self, rich):
        one, two = (json.dumps(provenance(rich, demo_study(1), {"model/a": "ab" * 32})) for _ in range(2))
        assert one == two
        assert not re.search(r"20\d\d-\d\d-\d\d", one)
