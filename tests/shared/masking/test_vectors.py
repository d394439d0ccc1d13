"""Answers as integers: every kind that is summed, against sums in exact fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fedloupe.masking import (
    SUMMED,
    NotSummable,
    add_terms,
    is_summed,
    real_sum,
    reply_of,
    sum_digest,
    term_of,
    weighted_mean,
)
from fedloupe.masking.vectors import negated
from fedloupe.messages import (
    KINDS,
    EvaluateRequest,
    GrowRequest,
    HelloRequest,
    NewtonReply,
    NewtonRequest,
    TrainReply,
    TrainRequest,
)
from fedloupe.statistics import ring

HEADER = {"version": "0.1.0", "fingerprint": "0" * 64, "run": "trial"}


def train(site: str, weights: Any, patients: int, loss: float | None = 0.5) -> TrainReply:
    return TrainReply(**HEADER, site=site, round=3, weights=weights, patients=patients, loss=loss, epsilon=None)


def request(site: str = "north") -> TrainRequest:
    return TrainRequest(**HEADER, site=site, round=3, scope="federated", weights=np.zeros(4, np.float32))


def total(replies: list[Any], asked: Any, *, equal: bool = False) -> Any:
    found = [term_of(reply, equal=equal) for reply in replies]
    return reply_of(
        add_terms([term for term, _ in found]), found[0][1], type(replies[0]), asked, len(replies), equal=equal
    )


class TestWeights:
    def test_the_mean_is_over_patients(self):
        found = total([train("a", np.float32([1, 2]), 10), train("b", np.float32([4, -1]), 30)], request())
        assert found.weights.tolist() == [3.25, -0.25]
        assert (found.patients, found.site, found.round, found.epsilon) == (40, "all", 3, None)

    def test_or_over_sites_where_they_count_alike(self):
        replies = [train("a", np.float32([1, 2]), 10, 0.25), train("b", np.float32([4, -1]), 30, 0.75)]
        found = total(replies, request(), equal=True)
        assert found.weights.tolist() == [2.5, 0.5]
        assert found.loss == 0.625  # a loss stays one over patients

    def test_a_loss_that_no_site_tells_is_none(self):
        assert (
            total([train("a", np.float32([1]), 3, None), train("b", np.float32([2]), 3, None)], request()).loss is None
        )

    @pytest.mark.parametrize("seed", range(40))
    def test_the_error_is_the_stated_one(self, seed):
        rng = np.random.default_rng(seed)
        sites = [
            (int(rng.integers(1, 2000)), float(rng.normal() * 10.0 ** rng.integers(-6, 2))) for _ in range(3 + seed)
        ]
        replies = [train(f"s{i}", np.float32([w]), n) for i, (n, w) in enumerate(sites)]
        patients = sum(n for n, _ in sites)
        exact = sum(Fraction(n) * Fraction(float(np.float32(w))) for n, w in sites) / patients
        found = float(total(replies, request()).weights[0])
        assert abs(Fraction(found) - exact) <= Fraction(len(sites), patients * 2**33) + abs(exact) * Fraction(1, 2**52)

    def test_a_mean_without_messages_has_the_same_bits(self):
        rng = np.random.default_rng(4)
        shares = [(rng.standard_normal(40).astype(np.float32), int(n)) for n in (7, 30, 12)]
        replies = [train(f"s{i}", weights, n) for i, (weights, n) in enumerate(shares)]
        assert weighted_mean(shares).tobytes() == total(replies, request()).weights.tobytes()

    @pytest.mark.parametrize("weight", [1e4, np.inf, np.nan])
    def test_weights_that_diverged_are_refused(self, weight):
        with pytest.raises(NotSummable, match="FL-553"):
            term_of(train("a", np.array([weight]), 1000), equal=False)


class TestSums:
    def test_real_numbers_add_exactly(self):
        """0.1 + 0.2 - 0.3 in floating point is not zero; the integers' sum is that of the three float64."""
        parts = [0.1, 0.2, -0.3, 1e16, -1e16]
        replies = [
            NewtonReply(**HEADER, site=f"s{i}", gradient=np.array([v]), hessian=np.array([[v]]))
            for i, v in enumerate(parts)
        ]
        asked = NewtonRequest(**HEADER, site="s0", step=0, beta=np.zeros(1))
        found = total(replies, asked)
        exact = sum(Fraction(v) for v in parts)
        assert Fraction(float(found.gradient[0])) == exact
        assert found.hessian.shape == (1, 1)

    def test_a_sum_without_messages_is_exact_too(self):
        parts = [np.array([[0.1, 1e16]]), np.array([[0.2, 1.0]]), np.array([[-0.3, -1e16]])]
        found = real_sum(parts)
        assert found.shape == (1, 2) and found[0, 1] == 1.0
        assert Fraction(float(found[0, 0])) == Fraction(0.1) + Fraction(0.2) + Fraction(-0.3)

    @pytest.mark.parametrize("kind", sorted(SUMMED, key=lambda k: k.__name__), ids=lambda k: k.__name__)
    def test_every_kind_and_field_adds_up(self, kind):
        """Three sites' answers of small integers: each field of the sum is the fields' sum."""
        rng = np.random.default_rng(2)
        replies = [self._sample(kind, site, rng) for site in ("a", "b", "c")]
        asked_kind = KINDS[str(kind.model_fields["kind"].default).removesuffix("-reply")]
        asked = asked_kind.model_construct(**HEADER, site="a", round=1)
        found = total(replies, asked)
        for name, form in SUMMED[kind].items():
            values = [getattr(reply, name) for reply in replies]
            match form:
                case "exact":
                    assert np.array_equal(ring.decode(getattr(found, name)), sum(ring.decode(v) for v in values))
                case "weights" | "mean":
                    patients = [r.patients for r in replies]
                    mean = sum(np.asarray(v, float) * n for v, n in zip(values, patients, strict=True)) / sum(patients)
                    np.testing.assert_allclose(getattr(found, name), mean, atol=1e-9)
                case _:
                    assert np.array_equal(getattr(found, name), sum(values))

    @staticmethod
    def _sample(kind: Any, site: str, rng: np.random.Generator) -> Any:
        fields: dict[str, Any] = {"round": 1, "epsilon": None}
        for name, form in SUMMED[kind].items():
            if form == "exact":
                fields[name] = ring.encode(rng.integers(-9, 9, (2, 3)).astype(float))
            elif name in kind.tensors:
                fields[name] = (
                    rng.integers(0, 9, (2, 3)) if form == "count" else rng.integers(-9, 9, (2, 3)).astype(float)
                )
            else:
                fields[name] = 0.5 if form == "mean" else int(rng.integers(1, 9))
        return kind(**HEADER, site=site, **{k: v for k, v in fields.items() if k in kind.model_fields})

    def test_what_is_taken_away_again_leaves_nothing(self):
        rng = np.random.default_rng(1)
        term, _ = term_of(train("a", rng.standard_normal(5), 7), equal=False)
        wide = rng.integers(-(2**63), 2**63 - 1, (4, 6))
        whole = type(term)(wide, term.narrow)
        gone = add_terms([whole, negated(whole)])
        assert not gone.wide.any() and not gone.narrow.any()


class TestWhat:
    def test_what_is_asked_is_the_same_for_every_site(self):
        assert sum_digest(request("north")) == sum_digest(request("south"))
        assert sum_digest(request()) == sum_digest(request().model_copy(update={"run": "another"}))
        steps = [NewtonRequest(**HEADER, site="a", step=step, beta=np.zeros(2)) for step in (0, 1)]
        assert sum_digest(steps[0]) == sum_digest(steps[1])
        other = request().model_copy(update={"weights": np.ones(4, np.float32)})
        assert sum_digest(request()) != sum_digest(other)

    def test_only_answers_that_are_added_are_summed(self):
        evaluate = EvaluateRequest(
            **HEADER, site="a", label="federated", architecture="transformer", split="test", threshold=0.5,
            weights=np.zeros(1),
        )  # fmt: skip
        own = request().model_copy(update={"scope": "local", "round": 0})
        grow = GrowRequest(**HEADER, site="a", round=1, trees=np.zeros((0, 5)))
        assert not any(is_summed(r) for r in (evaluate, own, grow, HelloRequest(**HEADER, site="a")))
        assert is_summed(request())

    def test_terms_of_different_shapes_do_not_add(self):
        one, _ = term_of(train("a", np.zeros(2), 3), equal=False)
        two, _ = term_of(train("a", np.zeros(3), 3), equal=False)
        with pytest.raises(ValueError, match="shapes"):
            add_terms([one, two])

    def test_a_layout_too_small_for_the_integers_is_no_answer(self):
        term, layout = term_of(train("a", np.zeros(2), 3), equal=False)
        with pytest.raises(ValueError, match="more integers"):
            reply_of(term, {**layout, "weights": (1,)}, TrainReply, request(), 1, equal=False)
