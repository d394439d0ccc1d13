"""A study under client-level privacy: what it must say, what it may not ask for, and that it is not DP-SGD."""

from __future__ import annotations

from typing import Any

import pytest

from fedloupe.study import ClientDp, parse_study

PRIVACY = {"mode": "client-dp", "epsilon": 8, "clip": 0.5}
TRAINING = {"preparation": "public", "start": "random", "weighting": "equal"}


def client(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**content, "privacy": PRIVACY, "training": TRAINING, **changes}


class TestWhatItIs:
    def test_it_has_a_bound_and_a_delta_and_no_sampling(self, content):
        privacy = parse_study(client(content)).privacy
        assert privacy == ClientDp(mode="client-dp", epsilon=8, delta=1e-5, clip=0.5)
        assert set(privacy.model_dump()) == {"mode", "epsilon", "delta", "clip"}

    def test_delta_is_shown_where_hospitals_read_it(self, content):
        assert '"delta":0.00001' in parse_study(client(content)).canonical.replace("1e-05", "0.00001")

    def test_it_is_private_and_none_is_not(self, content):
        assert parse_study(client(content)).private
        assert not parse_study(content).private

    def test_its_updates_are_added_up_securely_unless_it_says_otherwise(self, content):
        assert parse_study(client(content)).aggregation == "secure"
        assert parse_study(client(content, aggregation="plain")).aggregation == "plain"

    @pytest.mark.parametrize("key", ["sampling_rate", "learning_rate"])
    def test_keys_of_the_other_mode_are_refused(self, content, refused, key):
        assert f"`privacy.{key}`: unknown key" in refused(**client({}, privacy={**PRIVACY, key: 0.5}))

    @pytest.mark.parametrize(("key", "value"), [("epsilon", 0), ("epsilon", 101), ("delta", 0.1), ("clip", 0)])
    def test_numbers_have_a_range_and_are_named_without_the_mode(self, refused, key, value):
        assert f"`privacy.{key}`" in refused(**client({}, privacy={**PRIVACY, key: value}))


class TestNothingBesideTheAccount:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"training": {**TRAINING, "preparation": "federated"}}, "training.preparation: public"),
            ({"training": {**TRAINING, "start": "logistic"}}, "training.start: random"),
            ({"training": {**TRAINING, "weighting": "patients"}}, "training.weighting: equal"),
            ({"training": {**TRAINING, "random_intercept": 3}}, "random_intercept"),
            ({"evaluation": {"describe": True}}, "evaluation.describe"),
            ({"evaluation": {"clinical_baseline": True}}, "clinical_baseline"),
            ({"evaluation": {"trees": {}}}, "trees"),
            ({"evaluation": {"leave_one_site_out": True}}, "leave_one_site_out"),
            ({"prediction": {}}, "prediction"),
            ({"personalisation": {"method": "fine-tune"}}, "personalisation"),
            ({"harmonisation": {}}, "harmonisation"),
            ({"quality": {"redundancy": 0.9}}, "quality"),
        ],
    )
    def test_it_is_refused_and_the_key_is_named(self, refused, changes, words):
        text = refused(**client({}, **changes))
        assert words in text
        assert "dp-sgd" not in text

    def test_a_drawing_study_too(self, content, refused):
        content.update(sequences=[{"name": "t2w"}], clinical=[], radiomics={"source": "none"}, segmentation={})
        assert "`segmentation` is not trained under `privacy.mode: client-dp`" in refused(**client({}))

    def test_delta_must_be_below_one_in_the_number_of_hospitals(self, content, refused):
        sites = [{"name": f"site-{i}", "role": "train"} for i in range(200)]
        quorum = {"minimum": 2}
        privacy = {**PRIVACY, "delta": 5e-3}
        assert "below 1 / 200" in refused(**client({}, sites=sites, quorum=quorum, privacy=privacy))
        parse_study(client(content, sites=sites, quorum=quorum, privacy={**privacy, "delta": 4e-3}))
