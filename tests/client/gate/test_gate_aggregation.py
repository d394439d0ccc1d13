"""Secure sums at the gate: what is added up comes in a sum and in nothing else, and is checked as if it came alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from certified import Registrar
from fedloupe.masking import SUMMED, is_summed
from fedloupe.messages import (
    KeysRequest,
    Message,
    MessageRefused,
    Request,
    SharesRequest,
    SumRequest,
    UnmaskRequest,
    decode,
    encode,
)
from fedloupe.study import Study
from fedloupe_client.gate import (
    CohortTooSmall,
    Gate,
    KindNotAllowed,
    NotInStudy,
    RoleRefused,
    RoundRefused,
    SecureSumsRequired,
    approve,
    rules,
)
from fedloupe_client.gate.sums import SecureSums

SETUP = "ab" * 16
SITES = [{"name": name, "role": "train"} for name in ("north", "south", "east", "west")]
OF_SUMS = ["summary", "buckets", "covariance", "describe", "crossproducts", "residuals", "prior", "sketch", "newton"]
OF_SUMS += ["train", "midpoint"]
OF_NONE = ["hello", "harmonise", "prepare", "evaluate"]
ADDING_UP = {
    "keys": (KeysRequest, {}),
    "shares": (
        SharesRequest,
        {
            "members": ("east", "north", "south"),
            "channels": np.zeros((3, 32), np.uint8),
            "masks": np.zeros((3, 64, 32), np.uint8),
            "certificates": (),
            "signatures": (),
        },
    ),
    "sum": (SumRequest, {"session": 0, "inner": np.zeros(3, np.uint8)}),
    "unmask": (
        UnmaskRequest,
        {"session": 0, "contributors": ("east", "north", "south"), "boxes": np.zeros((3, 80), np.uint8)},
    ),
}


@pytest.fixture
def make_secure(make_study, home) -> Callable[..., Study]:
    """A study of four sites that describes and harmonises; approved."""

    def make(**changes: Any) -> Study:
        content: dict[str, Any] = {
            "aggregation": "secure",
            "sites": [*SITES, {"name": "coast", "role": "validate"}],
            "clinical": [{"name": "age", "column": "age"}],
            "harmonisation": {"covariates": ["age"]},
            "evaluation": {"leave_one_site_out": False, "describe": True, "local_models": "everywhere"},
        }
        study = make_study(**{**content, **changes})
        approve(home, study, by="officer")
        return study

    return make


@pytest.fixture
def secure(make_secure) -> Study:
    return make_secure()


def header(request: Request) -> dict[str, Any]:
    return {name: getattr(request, name) for name in Message.model_fields}


def term(request: Request, **changes: Any) -> bytes:
    """The request that asks for the answer to this one as a term of a sum."""
    inner = np.frombuffer(encode(request), dtype=np.uint8)
    body = {"setup": SETUP, "session": 0, "inner": inner}
    return encode(SumRequest(**{**header(request), **body, **changes}))


def lines(home):
    return [json.loads(line) for line in (home / "gate" / "audit.jsonl").read_text().splitlines()]


class TestOfASecureStudy:
    def test_what_shapes_the_model_is_summed_and_trees_are_not_in_it(self):
        contributing = {f"{kind.model_fields['kind'].default}-reply" for kind in rules.CONTRIBUTING}
        summed = {str(kind.model_fields["kind"].default) for kind in SUMMED}
        assert contributing == summed - {"scores-reply"} | {"grow-reply"}  # scores judge the model, and shape nothing

    @pytest.mark.parametrize("kind", OF_SUMS)
    def test_what_is_summed_comes_in_a_sum_and_never_in_the_clear(self, gate, ask, secure, kind):
        request = ask(kind, secure)
        assert is_summed(request)
        admitted, study = gate.admit(term(request))
        assert (admitted.kind, study) == ("sum", secure)
        assert encode(gate.asked(admitted)) == encode(request)
        with pytest.raises(NotInStudy, match="in the clear"):
            gate.admit(encode(request))

    @pytest.mark.parametrize("kind", OF_NONE)
    def test_what_is_not_summed_comes_in_the_clear_and_in_no_sum(self, gate, ask, secure, kind):
        request = ask(kind, secure)
        assert gate.admit(encode(request))[0].kind == kind
        with pytest.raises(NotInStudy, match="it is none"):
            gate.admit(term(request))

    def test_a_sites_own_model_is_no_term(self, gate, ask, secure):
        request = ask("train", secure, scope="local", round=0)
        with pytest.raises(NotInStudy, match="it is none"):
            gate.admit(term(request))
        gate.admit(encode(request))

    def test_a_sum_of_sums_is_none(self, gate, ask, secure):
        inner = decode(term(ask("describe", secure)))
        with pytest.raises(NotInStudy, match="it is none"):
            gate.admit(term(inner))

    def test_a_refused_one_is_a_line_of_the_chain(self, gate, ask, secure, home):
        with pytest.raises(NotInStudy):
            gate.admit(encode(ask("describe", secure)))
        assert (lines(home)[-1]["kind"], lines(home)[-1]["outcome"]) == ("describe", NotInStudy.code)


class TestWhatASumHolds:
    @pytest.mark.parametrize(
        "other", [{"site": "south"}, {"run": "run-2"}, {"fingerprint": "0" * 64}, {"version": "0.0.9"}]
    )
    def test_is_for_the_same_site_run_and_study(self, gate, ask, secure, other):
        request = ask("describe", secure)
        gate.admit(term(request))
        inner = np.frombuffer(encode(request.model_copy(update=other)), dtype=np.uint8)
        with pytest.raises(KindNotAllowed, match="another run, study or site"):
            gate.admit(term(request, inner=inner))

    def test_is_a_request(self, gate, ask, secure, trained):
        request = ask("train", secure)
        with pytest.raises(KindNotAllowed, match="no request"):
            gate.admit(term(request, inner=np.frombuffer(encode(trained(request)), dtype=np.uint8)))
        for inner in (np.zeros(0, np.uint8), np.arange(40, dtype=np.uint8)):
            with pytest.raises(MessageRefused):
                gate.admit(term(request, inner=inner))

    def test_is_allowed_as_it_would_be_alone(self, gate, ask, secure, home, set_policy):
        with pytest.raises(RoundRefused):
            gate.admit(term(ask("train", secure, round=99)))
        with pytest.raises(RoleRefused):
            Gate(home, "coast").admit(term(ask("describe", secure, site="coast")))
        set_policy(messages=["sum", "train"])
        gate.admit(term(ask("train", secure)))
        with pytest.raises(KindNotAllowed, match="`describe`"):
            gate.admit(term(ask("describe", secure)))

    def test_counts_among_the_different_requests_of_a_run(self, gate, ask, secure, set_policy):
        set_policy(maximum_rounds=4)
        for value in range(5):
            gate.admit(term(ask("train", secure, weights=np.full(5, value, np.float32))))
        with pytest.raises(RoundRefused, match="different training requests"):
            gate.admit(term(ask("train", secure, weights=np.full(5, 5, np.float32))))

    @pytest.mark.parametrize("kind", OF_SUMS)
    def test_is_a_part_in_the_run(self, gate, ask, secure, kind):
        """So that this site's patients are no external validation of it."""
        asked = ask(kind, secure)
        assert not gate._runs.took_part(asked.run)
        gate.admit(term(asked))
        assert gate._runs.took_part(asked.run)

    def test_refused_it_is_no_part(self, gate, ask, secure):
        with pytest.raises(RoundRefused):
            gate.admit(term(ask("train", secure, round=99)))
        assert not gate._runs.took_part(ask("train", secure).run)


class TestOfAPlainStudy:
    @pytest.mark.parametrize("kind", ADDING_UP)
    def test_nothing_is_summed(self, gate, ask, study, secure, kind):
        record, body = ADDING_UP[kind]
        with pytest.raises(NotInStudy, match="which the study has not"):
            gate.admit(encode(record(**header(ask("hello", study)), setup=SETUP, **body)))
        if kind != "sum":  # of which `TestOfASecureStudy` has the good ones
            gate.admit(encode(record(**header(ask("hello", secure)), setup=SETUP, **body)))

    def test_a_good_request_in_a_sum_is_refused_too(self, gate, ask, study):
        gate.admit(encode(ask("describe", study)))
        with pytest.raises(NotInStudy, match="which the study has not"):
            gate.admit(term(ask("describe", study)))

    def test_every_request_is_refused_where_the_policy_requires_secure_sums(self, gate, ask, study, secure, set_policy):
        set_policy(require_secure_sums=True)
        for kind in ("hello", "describe", "train", "evaluate"):
            with pytest.raises(SecureSumsRequired, match="requires secure sums"):
                gate.admit(encode(ask(kind, study)))
        gate.admit(encode(ask("hello", secure)))
        gate.admit(term(ask("describe", secure)))


class TestASiteThatOnlyValidates:
    @pytest.mark.parametrize("kind", ADDING_UP)
    def test_has_no_part_in_a_sum(self, home, ask, secure, kind):
        record, body = ADDING_UP[kind]
        with pytest.raises(RoleRefused):
            Gate(home, "coast").admit(encode(record(**header(ask("hello", secure, site="coast")), setup=SETUP, **body)))


class TestTheTermBeforeItsMasks:
    """The answer stays; `mask` makes of it what leaves."""

    def test_is_recorded_as_what_stays(self, gate, ask, secure, trained, home):
        request = ask("train", secure)
        blob = gate.release(trained(request), request, summed=True)
        assert (lines(home)[-1]["direction"], lines(home)[-1]["outcome"]) == ("local", "to be summed")
        assert gate.stored_answer(request, summed=True) == blob
        assert len([line for line in lines(home) if line["direction"] == "out"]) == 0

    def test_is_protected_like_any_answer(self, gate, ask, secure, trained):
        request = ask("train", secure)
        with pytest.raises(CohortTooSmall):
            gate.release(trained(request, patients=19), request, summed=True)

    def test_what_leaves_is_recorded_as_masked_and_shows_none_of_it(self, gate, ask, secure, trained, home, tmp_path):
        request = ask("train", secure)
        blob = gate.release(trained(request), request, summed=True)
        members = ("east", "north", "south", "west")
        registrar, made = Registrar(tmp_path / "registrar"), {}
        registrar.home(home, "north")
        for site in members:
            keys = KeysRequest(**{**header(request), "site": site}, setup=SETUP)
            made[site] = (
                decode(gate.set_up(keys, secure)) if site == "north" else others(registrar, tmp_path, site, keys)
            )
        stacked = {name: np.stack([getattr(made[site], name) for site in members]) for name in ("channel", "masks")}
        named = {"members": members, "channels": stacked["channel"], "masks": stacked["masks"]}
        proofs = {f"{name}s": tuple(getattr(made[s], name) for s in members) for name in ("certificate", "signature")}
        gate.set_up(SharesRequest(**header(request), setup=SETUP, **named, **proofs), secure)
        asked, _ = gate.admit(term(request))
        sent = decode(gate.mask(asked, secure, blob))
        assert (lines(home)[-1]["kind"], lines(home)[-1]["disclosure"]) == ("sum-reply", ["masked", "protocol"])
        weights = np.rint(decode(blob).weights.astype(np.float64) * 40 * 2.0**32).astype(np.int64)
        assert sent.layout["weights"] == weights.shape
        assert not set(sent.narrow.tolist()) & {40, *weights.tolist()}


def others(registrar, folder, site: str, request: KeysRequest):
    return SecureSums(registrar.home(folder / site, site), site).keys(request)
