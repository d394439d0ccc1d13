"""What a study may say: unknown keys, contradictions, quorum, roles, labels."""

from __future__ import annotations

import pytest

from fedloupe.study import Endpoint, StudyInvalid, parse_study


class TestKeys:
    @pytest.mark.parametrize("section", ["endpoint", "imaging", "radiomics", "model", "training", "quorum", "split"])
    def test_an_unknown_key_in_a_section_is_refused_by_name(self, content, section):
        content.setdefault(section, {})["colour"] = 1
        with pytest.raises(StudyInvalid) as caught:
            parse_study(content, "my-study.yaml")
        assert f"`{section}.colour`: unknown key" in str(caught.value)
        assert "my-study.yaml" in str(caught.value)

    def test_an_unknown_key_at_the_top_is_refused_by_name(self, refused):
        assert "`sitez`: unknown key" in refused(sitez=[])

    def test_an_unknown_key_in_a_list_is_refused_with_its_position(self, content, refused):
        content["sites"][1]["path"] = "/data"
        assert "`sites.1.path`: unknown key" in refused()

    def test_a_missing_key_is_named(self, content):
        del content["endpoint"]["column"]
        with pytest.raises(StudyInvalid, match=r"`endpoint\.column`: Field required"):
            parse_study(content)

    def test_a_wrong_choice_is_answered_with_the_accepted_ones(self, refused):
        text = refused(training={"strategy": "fedsgd"})
        assert "`training.strategy`" in text
        assert all(word in text for word in ("fedavg", "fedprox", "fedadam", "fedsgd"))

    def test_a_wrong_privacy_mode_is_answered_with_the_accepted_ones(self, refused):
        text = refused(privacy={"mode": "filter"})
        assert all(word in text for word in ("'none'", "'dp-sgd'", "'client-dp'", "filter"))

    def test_every_wrong_key_is_named_at_once(self, refused):
        text = refused(seed=-1, split={"test": 2.0})
        assert "`seed`" in text and "`split.test`" in text

    @pytest.mark.parametrize("content_of_file", [None, [], "study", 3])
    def test_what_is_no_mapping_is_refused(self, content_of_file):
        with pytest.raises(StudyInvalid, match="mapping"):
            parse_study(content_of_file)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_numbers_are_finite(self, refused, value):
        assert "`training.learning_rate`" in refused(training={"learning_rate": value})

    def test_a_study_is_frozen(self, content):
        study = parse_study(content)
        with pytest.raises(ValueError, match="frozen"):
            study.seed = 2


class TestContradictions:
    def test_dp_sgd_needs_a_public_preparation(self, content, refused):
        privacy = {"mode": "dp-sgd", "epsilon": 8}
        assert "training.preparation: public" in refused(privacy=privacy, training={"start": "random"})
        training = {"preparation": "public", "start": "random"}
        assert parse_study({**content, "privacy": privacy, "training": training}).privacy.mode == "dp-sgd"

    def test_dp_sgd_cannot_start_from_exact_sums(self, refused):
        privacy = {"mode": "dp-sgd", "epsilon": 8}
        assert "training.start: random" in refused(privacy=privacy, training={"preparation": "public"})

    @pytest.mark.parametrize("epsilon", [0, -1, 101])
    def test_epsilon_has_a_range(self, refused, epsilon):
        text = refused(
            privacy={"mode": "dp-sgd", "epsilon": epsilon}, training={"preparation": "public", "start": "random"}
        )
        assert "`privacy.epsilon`" in text

    @pytest.mark.parametrize("section", ["sites", "sequences", "clinical"])
    def test_a_name_given_twice_is_named(self, content, refused, section):
        twice = content[section][1]["name"]
        content[section].append(dict(content[section][1]))
        assert f"`{section}` names ['{twice}'] more than once" in refused()

    def test_the_first_sequence_must_be_a_required_mr(self, content, refused):
        content["sequences"] = content["sequences"][::-1]
        assert "defines the grid" in refused()

    def test_a_difference_of_a_sequence_that_is_not_there_is_refused(self, refused, content):
        settings = {**content["radiomics"]["settings"], "delta": [["t2w", "dce_pre"], ["t2w", "adc"]]}
        text = refused(radiomics={"source": "computed", "settings": settings})
        assert "`radiomics.settings.delta` names ['dce_pre']" in text

    def test_a_table_brings_no_images(self, refused):
        assert "remove `sequences`" in refused(radiomics={"source": "table"})

    def test_computed_features_need_settings(self, refused):
        assert "radiomics.settings" in refused(radiomics={"source": "computed"})

    def test_without_radiomics_there_must_be_images(self, refused):
        assert "model.image" in refused(radiomics={"source": "none"}, model={"image": False})

    def test_heads_divide_the_width(self, refused):
        assert "multiple" in refused(model={"width": 30, "heads": 4})

    def test_a_split_leaves_patients_for_training(self, refused):
        assert "leave less than 10 %" in refused(split={"test": 0.5, "tune": 0.45})

    def test_a_true_probability_exists_in_synthetic_studies_only(self, refused):
        assert "synthetic" in refused(synthetic=False, evaluation={"reference_score": "p"})


class TestQuorum:
    @pytest.mark.parametrize("key", ["must", "may"])
    def test_sites_named_are_training_sites(self, refused, key):
        text = refused(quorum={key: ["coast", "nowhere"]})
        assert f"`quorum.{key}` names ['coast', 'nowhere']" in text and "north" in text

    def test_a_site_cannot_be_waited_for_and_not(self, refused):
        text = refused(quorum={"must": ["north", "south"], "may": ["south"]})
        assert "`quorum.must` and `quorum.may` both name ['south']" in text

    def test_somebody_is_waited_for(self, refused):
        assert "nobody would be waited for" in refused(quorum={"may": ["north", "south", "east"]}, aggregation="plain")

    def test_a_secure_sum_needs_three_that_are_waited_for(self, content, refused):
        quorum = {"may": ["south"], "minimum": 2}
        assert "leaves 2 sites" in refused(quorum=quorum, aggregation="secure")
        parse_study({**content, "aggregation": "plain", "quorum": quorum})

    def test_the_reference_of_a_harmonisation_is_waited_for(self, refused):
        text = refused(aggregation="plain", harmonisation={"reference": "south"}, quorum={"may": ["south"]})
        assert "`harmonisation.reference` is south" in text

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"aggregation": "secure"}, "needs `aggregation: plain`"),
            ({"training": {"strategy": "fedadam"}}, "needs `training.strategy: fedavg`"),
            ({"training": {"strategy": "fedprox"}}, "needs `training.strategy: fedavg`"),
        ],
    )
    def test_late_answers_are_carried_over_where_their_sum_is_known(self, content, refused, changes, said):
        plain = {"aggregation": "plain", "quorum": {"late": "carry"}}
        parse_study({**content, **plain})
        assert said in refused(**{**plain, **changes})

    def test_the_old_key_is_unknown(self, refused):
        assert "`quorum.required`: unknown key" in refused(quorum={"required": ["north"]})

    def test_everybody_else_is_waited_for_until_the_deadline(self, content):
        quorum = {"must": ["north"], "may": ["east"]}
        found = parse_study({**content, "aggregation": "plain", "quorum": quorum}).quorum
        assert [found.presence(site) for site in ("north", "south", "east")] == ["must", "should", "may"]

    def test_the_minimum_cannot_exceed_the_training_sites(self, content, refused):
        assert "only 3 sites train" in refused(quorum={"minimum": 4})
        assert parse_study({**content, "quorum": {"minimum": 3}}).quorum.minimum == 3

    def test_someone_must_train(self, refused):
        assert "no site with role `train`" in refused(sites=[{"name": "coast", "role": "validate"}], quorum={})

    def test_leaving_a_site_out_needs_someone_left_to_fit_on(self, refused):
        """With one training site the fold without it has nobody."""
        text = refused(
            sites=[{"name": "north", "role": "train"}],
            quorum={"minimum": 1},
            evaluation={"leave_one_site_out": True},
        )
        assert "leave_one_site_out" in text


class TestRoles:
    def test_sites_are_listed_by_role_in_the_studys_order(self, content):
        study = parse_study(content)
        assert study.train_sites == ("north", "south", "east")
        assert study.validate_sites == ("coast",)

    def test_a_role_is_known_or_none(self, content):
        study = parse_study(content)
        assert [study.role(s) for s in ("north", "coast", "nowhere")] == ["train", "validate", None]


class TestLabels:
    def test_values_map_to_the_endpoint_and_others_to_none(self, content):
        endpoint = parse_study(content).endpoint
        assert [endpoint.label(v) for v in ("TRG1", "TRG2", "TRG3", "TRG4", "")] == [1, 1, 0, None, None]

    def test_spaces_around_a_value_do_not_matter_but_case_does(self, content):
        endpoint = parse_study(content).endpoint
        assert endpoint.label(" TRG3\n") == 0
        assert endpoint.label("trg3") is None

    def test_a_value_in_both_lists_is_refused(self):
        with pytest.raises(ValueError, match=r"\['1'\] stand in both"):
            Endpoint(name="r", column="r", positive=("1", "2"), negative=("0", "1"))

    def test_a_number_in_the_mapping_is_refused_not_guessed(self, content, refused):
        content["endpoint"]["positive"] = [1]
        assert "`endpoint.positive.0`" in refused()
