"""A run's seal: canonical, signed, compared item by item, and told to be of a study."""

from __future__ import annotations

import hashlib
import json
from typing import ClassVar

import numpy as np
import pytest

from fedloupe.freezing import Seal, SealedModel, columns_digest, prediction_digest
from fedloupe.messages import OpenReply, OpenRequest, decode, encode
from fedloupe.scoring import LONGEST_SEAL
from fedloupe.signing import SignatureWrong, Signer, check
from fedloupe.study import Study

SITES = [{"name": "north", "role": "train"}, {"name": "coast", "role": "validate"}]


def make_study(**changes) -> Study:
    content = {
        "study": "sealed",
        "title": "Synthetic",
        "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
        "aggregation": "plain",
        "sites": SITES,
        "radiomics": {"source": "table"},
        "model": {"image": False},
        "quorum": {"minimum": 1},
    }
    return Study.model_validate({**content, **changes})


@pytest.fixture
def seal() -> Seal:
    study = make_study()
    return Seal(
        **{"version": "0.1.0", "study": study.study, "title": study.title, "sites": study.sites, "run": "trial"},
        fingerprint=study.fingerprint,
        models={
            "federated": SealedModel(weights="a" * 64, calibrated=True),
            "local-north": SealedModel(weights="b" * 64),
        },
        **{"preparation": "c" * 64, "threshold": 0.1 + 0.2, "raw_threshold": 0.25, "line": (0.1, 1 / 3)},
        **{"contributed": ("north",), "plan": {"endpoint": "Größe"}},
    )


@pytest.fixture
def key(tmp_path) -> Signer:
    return Signer.make(tmp_path / "coordinator.key")


class TestItsForm:
    def test_it_comes_back_from_its_text_with_every_bit(self, seal, key):
        signed = seal.signed(key)
        assert Seal.parse(signed.text) == signed
        assert Seal.parse(json.dumps(json.loads(signed.text), indent=2)) == signed

    def test_its_text_is_json_with_sorted_keys_in_ascii(self, seal):
        assert seal.text.isascii()
        assert seal.text == json.dumps(json.loads(seal.text), sort_keys=True, separators=(",", ":"))

    def test_its_digest_is_of_everything_but_who_signed(self, seal, key):
        content = {k: v for k, v in json.loads(seal.text).items() if k not in ("coordinator", "signature")}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        assert seal.digest == seal.signed(key).digest == hashlib.sha256(text.encode()).hexdigest()
        assert seal.model_copy(update={"threshold": 0.5}).digest != seal.digest

    @pytest.mark.parametrize(
        "change",
        [
            {"threshold": 1.5}, {"threshold": float("nan")}, {"models": {}}, {"models": {"X": {"weights": "a" * 64}}},
            {"fingerprint": "x"}, {"unknown": 1}, {"contributed": ["a b"]}, {"signature": "00"}, {"format": "2"},
        ],
    )  # fmt: skip
    def test_what_is_none_is_refused_by_name_and_not_by_value(self, seal, change):
        text = json.dumps({**json.loads(seal.text), **change})
        with pytest.raises(ValueError, match=next(iter(change))):
            Seal.parse(text)


class TestSigned:
    def test_the_signature_is_good_for_a_seal_and_for_all_of_it(self, seal, key):
        signed = seal.signed(key)
        signed.check()
        assert signed.coordinator == key.public
        with pytest.raises(SignatureWrong):
            check("study", signed.said, signed.signature, signed.coordinator)

    @pytest.mark.parametrize(
        "change",
        [{"threshold": 0.3}, {"contributed": ()}, {"run": "other"}, {"plan": {}}, {"version": "0.1.1"}, {"line": None}],
    )
    def test_no_field_can_be_changed_since(self, seal, key, change):
        with pytest.raises(SignatureWrong):
            seal.signed(key).model_copy(update=change).check()

    def test_nobody_can_put_a_key_of_their_own_under_it(self, seal, key, tmp_path):
        other = Signer.make(tmp_path / "other.key")
        with pytest.raises(SignatureWrong):
            seal.signed(key).model_copy(update={"coordinator": other.public}).check()

    def test_an_unsigned_one_is_signed_by_nobody(self, seal):
        with pytest.raises(SignatureWrong):
            seal.check()


class TestCompared:
    def test_the_same_content_signed_by_another_or_made_by_another_version(self, seal, key):
        assert seal.signed(key).differing(seal.signed(key)) == ()
        assert seal.differing(seal.model_copy(update={"version": "0.2.0"})) == ()
        assert seal.signed(key).differing(seal) == ("coordinator",)

    def test_each_item_is_named_models_by_their_label(self, seal):
        models = {"federated": seal.models["federated"], "logistic": SealedModel(weights="d" * 64)}
        other = seal.model_copy(update={"threshold": 0.3, "line": (0.1, 0.3), "models": models})
        assert seal.differing(other) == ("threshold", "line", "models.local-north", "models.logistic")


class TestOfAStudy:
    def test_its_own_and_one_with_more_validating_sites_and_another_title(self, seal):
        assert seal.is_of(make_study())
        assert seal.is_of(make_study(title="Other words", sites=[*SITES, {"name": "isle", "role": "validate"}]))
        assert seal.is_of(make_study(sites=[{"name": "isle", "role": "validate"}, *SITES]))

    @pytest.mark.parametrize(
        "changes",
        [
            {"seed": 2},
            {"study": "other"},
            {"split": {"test": 0.3}},
            {"endpoint": {"name": "r", "column": "r", "positive": ["1", "2"], "negative": ["0"]}},
            {"sites": SITES[:1]},
            {"sites": [*SITES, {"name": "isle", "role": "train"}]},
            {"sites": [{"name": "north", "role": "train"}, {"name": "coast", "role": "train"}]},
        ],
    )
    def test_none_in_which_anything_else_is_another(self, seal, changes):
        assert not seal.is_of(make_study(**changes))


class TestDigests:
    def test_of_what_predictions_rest_on_every_number_counts(self):
        whole = prediction_digest(0.5, 2.0, np.zeros(3), np.eye(3))
        others = [
            prediction_digest(0.5 + 2**-53, 2.0, np.zeros(3), np.eye(3)),
            prediction_digest(2.0, 0.5, np.zeros(3), np.eye(3)),
            prediction_digest(0.5, 2.0, np.zeros(4), np.eye(4)),
            prediction_digest(0.5, 2.0, np.zeros(3), 2 * np.eye(3)),
        ]
        assert len({whole, *others}) == 5

    def test_of_columns_their_order_and_groups_count(self):
        one = columns_digest(("a", "b"), ("x", "y"))
        assert one == columns_digest(("a", "b"), ("x", "y"))
        assert len({one, columns_digest(("b", "a"), ("x", "y")), columns_digest(("a", "b"), ("y", "x"))}) == 3


class TestOnTheWire:
    HEADER: ClassVar = {"version": "0.1.0", "fingerprint": "0" * 64, "run": "trial", "site": "coast"}

    def test_it_travels_as_text(self, seal, key):
        request = OpenRequest(**self.HEADER, seal=seal.signed(key).text)
        assert Seal.parse(decode(encode(request)).seal) == seal.signed(key)
        assert decode(encode(OpenReply(**self.HEADER, seal=seal.digest))).seal == seal.digest

    def test_one_that_is_too_long_does_not(self):
        OpenRequest(**self.HEADER, seal="x" * LONGEST_SEAL)
        with pytest.raises(ValueError, match="seal"):
            OpenRequest(**self.HEADER, seal="x" * (LONGEST_SEAL + 1))
