"""What the report says of the price of privacy: destroyed models by name, small sites, and what the run cannot know."""

from __future__ import annotations

from typing import Any

from fedloupe_server.evidence import noise, wording
from fedloupe_server.evidence.results import Results


def chance(results: Results, **kept: Any) -> Results:
    """The results with every interval around 0.5, but for sites named in `kept`."""
    sites = []
    for site in results.sites:
        around = {"auc": 0.53, "auc_low": 0.44, "auc_high": 0.62}
        federated = site.federated.model_copy(update=kept.get(site.site, around))
        sites.append(site.model_copy(update={"federated": federated}))
    pooled = results.pooled.model_copy(update={"auc": 0.52, "low": 0.46, "high": 0.58}) if results.pooled else None
    return results.model_copy(update={"sites": tuple(sites), "pooled": pooled})


class TestDestroyed:
    def test_a_private_model_that_nothing_tells_from_chance_is_called_so_on_the_first_page(self, make_results):
        results = chance(make_results(private=True))
        (said,) = noise.destroyed(results)
        assert "At epsilon 8 nothing shows" in said and "highest AUC 0.53" in said and "Do not use it" in said
        assert said in wording.found(results)

    def test_one_external_site_that_is_told_from_chance_is_enough(self, make_results):
        results = make_results(private=True)
        apart = next(s.site for s in results.sites if s.role == "validate")
        known = chance(results, **{apart: {"auc": 0.7, "auc_low": 0.58, "auc_high": 0.8}})
        assert noise.destroyed(known) == []

    def test_one_small_training_site_is_not(self, make_results):
        results = make_results(private=True)
        known = chance(results, **{results.sites[0].site: {"auc": 0.9, "auc_low": 0.6, "auc_high": 0.99}})
        assert noise.destroyed(known) != []

    def test_where_nothing_is_pooled_and_nobody_validates_the_training_sites_tell(self, make_results):
        results = make_results(private=True, external=False, pooled=None)
        assert noise.destroyed(chance(results)) != []
        first = results.sites[0].site
        assert noise.destroyed(chance(results, **{first: {"auc": 0.9, "auc_low": 0.6, "auc_high": 0.99}})) == []

    def test_a_model_that_works_or_is_not_private_is_not_called_so(self, make_results):
        assert noise.destroyed(make_results(private=True)) == []
        assert noise.destroyed(chance(make_results())) == []


class TestCost:
    def test_small_sites_are_named_with_their_patients_at_epsilon_three(self, make_results):
        results = make_results(private=True, planned_epsilon=3.0)
        few = [s for s in results.sites if s.role == "train" and s.train < 100]
        assert few and len(few) < len([s for s in results.sites if s.role == "train"])
        said = " ".join(noise.cost(results))
        assert all(f"{s.site} ({s.train})" in said for s in few)
        assert not any(s.site in said for s in results.sites if s.role == "validate")
        assert "Fewer than 100" not in " ".join(noise.cost(make_results(private=True)))

    def test_what_the_run_cannot_know_is_said_and_where_measurements_stand(self, make_results):
        said = " ".join(wording.privacy(make_results(private=True)))
        assert "not known from this run" in said and "docs/privacy.md" in said
        assert noise.cost(make_results()) == []
