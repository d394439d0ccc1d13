"""Lock, then test, at the gate: a site that only validates answers what was sealed, and only where it took no part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fedloupe
from fedloupe.freezing import Seal
from fedloupe.messages import ReleaseRequest, Request, decode, encode
from fedloupe.signing import Signer
from fedloupe_client.gate import (
    Gate,
    NotAsSealed,
    NotExternal,
    NotSealed,
    RoleRefused,
    SealChanged,
    SealDamaged,
    SealRefused,
    approve,
    trust,
)
from sealing import key_of, open_site, opening, seal_of

RANGE = {"centre": np.zeros(3), "precision": np.eye(3)}
CALIBRATED = {"threshold": 0.4, "line": (0.1, 0.9), "admitted": 0.6, "limit": 2.0, **RANGE}


@pytest.fixture
def predicting(make_study, home):
    study = make_study(prediction={})
    approve(home, study, by="officer")
    return study


@pytest.fixture
def asked(ask, predicting) -> dict[str, Request]:
    """What the site that only validates is asked in an honest run."""
    at = {"site": "coast"}
    header = {"version": fedloupe.__version__, "fingerprint": predicting.fingerprint, "run": "run-1", **at}
    weights, beta = np.arange(5, dtype=np.float32), np.linspace(-1, 1, 4)
    return {
        "prepare": ask("prepare", predicting, **at),
        "federated": ask("evaluate", predicting, **at, split="all", weights=weights, **CALIBRATED),
        "raw": ask("evaluate", predicting, **at, split="all", weights=weights, label="federated-raw", threshold=0.3),
        "logistic": ask(
            "evaluate", predicting, **at, split="all", label="logistic", architecture="logistic", weights=beta,
            threshold=0.3,
        ),
        "release": ReleaseRequest(
            **header, weights=weights, patients=90, **{**CALIBRATED, "line": np.array([0.1, 0.9])}
        ),
    }  # fmt: skip


@pytest.fixture
def sealed(predicting, asked) -> Seal:
    return seal_of(predicting, *asked.values())


@pytest.fixture
def key(home) -> Signer:
    return key_of(home)


@pytest.fixture
def shown(home, key, asked):
    """Show a seal to the site, signed by the coordinator whom it trusts."""

    def show(seal: Seal, by: Signer = key, of: Request = asked["federated"], text: str | None = None) -> Gate:
        gate = Gate(home, "coast")
        request = opening(seal if seal.signature else seal.signed(by), of)
        request = request if text is None else request.model_copy(update={"seal": text})
        gate.admit(encode(request), by.public)
        return gate

    return show


def changed(request: Request, **changes: Any) -> bytes:
    return encode(request.model_copy(update=changes))


class TestHonest:
    def test_everything_that_was_sealed_is_answered_also_after_a_restart(self, home, shown, sealed, asked):
        shown(sealed)
        for request in asked.values():
            Gate(home, "coast").admit(encode(request))

    def test_the_answer_is_what_is_sealed(self, shown, sealed, asked, key, predicting):
        gate = shown(sealed)
        request = opening(sealed.signed(key), asked["federated"])
        assert decode(gate.set_up(request, predicting)).seal == sealed.digest

    def test_the_same_seal_may_be_shown_again(self, shown, sealed):
        shown(sealed)
        shown(sealed)

    def test_a_greeting_needs_none(self, home, ask, predicting):
        Gate(home, "coast").admit(encode(ask("hello", predicting, site="coast")))

    def test_sites_that_train_are_scored_without_and_shown_none(self, gate, ask, predicting, sealed, asked, key):
        gate.admit(encode(ask("evaluate", predicting, **CALIBRATED)))
        with pytest.raises(RoleRefused, match="trains"):
            gate.admit(encode(opening(sealed.signed(key), ask("evaluate", predicting))), key.public)


class TestBeforeTheSeal:
    @pytest.mark.parametrize("name", ["prepare", "federated", "raw", "logistic", "release"])
    def test_nothing_is_answered(self, home, asked, name):
        with pytest.raises(NotSealed):
            Gate(home, "coast").admit(encode(asked[name]))

    def test_another_runs_seal_does_not_serve(self, home, shown, sealed, asked):
        shown(sealed)
        with pytest.raises(NotSealed):
            Gate(home, "coast").admit(changed(asked["federated"], run="run-2"))

    def test_a_fold_is_another_run(self, home, shown, sealed, asked):
        shown(sealed)
        with pytest.raises(NotSealed):
            Gate(home, "coast").admit(changed(asked["federated"], run="run-1/without-north"))


class TestTookPart:
    @pytest.fixture
    def training(self, make_study, home):
        """The same study, but this site trains in it; or nearly the same."""

        def make(**changes):
            roles = [{"name": n, "role": "train"} for n in ("north", "south", "coast")]
            study = make_study(prediction={}, sites=roles, **changes)
            approve(home, study, by="officer")
            return study

        return make

    @pytest.mark.parametrize("kind", ["describe", "sketch", "newton", "train", "midpoint", "summary"])
    def test_one_answer_to_the_run_is_enough_to_be_refused_from_the_greeting_on(
        self, home, ask, predicting, training, shown, sealed, kind
    ):
        study = training(evaluation={"leave_one_site_out": True, "describe": True})
        Gate(home, "coast").admit(encode(ask(kind, study, site="coast")))
        with pytest.raises(NotExternal, match="run run-1"):
            Gate(home, "coast").admit(encode(ask("hello", predicting, site="coast")))
        with pytest.raises(NotExternal, match="run run-1"):
            shown(sealed)

    def test_one_to_a_fold_of_it_too(self, home, ask, training, shown, sealed):
        Gate(home, "coast").admit(encode(ask("describe", training(), site="coast", run="run-1/without-north")))
        with pytest.raises(NotExternal, match="run-1/without-north"):
            shown(sealed)

    def test_one_to_any_run_of_the_sealed_study(self, home, ask, make_study, key):
        """The sealed study is one in which this site trained; the one to validate in has it validate."""
        trained = make_study(sites=[{"name": n, "role": "train"} for n in ("north", "coast")])
        approve(home, trained, by="officer")
        Gate(home, "coast").admit(encode(ask("train", trained, site="coast", run="another-name")))
        assert Gate(home, "coast")._runs.gave_to("run-1", trained.fingerprint) == "another-name"
        assert Gate(home, "coast")._runs.gave_to("run-1", "0" * 64) is None

    def test_an_own_model_made_of_the_federations_is_one(self, home, ask, make_study, shown, sealed):
        roles = [{"name": n, "role": "train"} for n in ("north", "south", "coast")]
        study = make_study(sites=roles, personalisation={"method": "fine-tune"})
        approve(home, study, by="officer")
        Gate(home, "coast").admit(encode(ask("evaluate", study, site="coast", personal=True)))
        with pytest.raises(NotExternal):
            shown(sealed)

    def test_also_where_it_gave_something_after_the_seal(self, home, ask, training, shown, sealed, asked):
        shown(sealed)
        Gate(home, "coast").admit(encode(ask("describe", training(), site="coast")))
        with pytest.raises(NotExternal):
            Gate(home, "coast").admit(encode(asked["federated"]))

    def test_where_only_the_coordinator_says_so(self, shown, sealed):
        with pytest.raises(NotExternal, match="seal names this site"):
            shown(sealed.model_copy(update={"contributed": ("coast", "north")}))

    def test_a_greeting_or_a_refused_request_is_no_part(self, home, ask, training, shown, sealed):
        Gate(home, "coast").admit(encode(ask("hello", training(), site="coast")))
        with pytest.raises(Exception, match="FL-509"):
            Gate(home, "coast").admit(encode(ask("train", training(), site="coast", round=99)))
        shown(sealed)


class TestNotAsSealed:
    @pytest.mark.parametrize(
        ("name", "change", "item"),
        [
            ("federated", {"threshold": 0.41}, "threshold"),
            ("federated", {"weights": np.arange(5, dtype=np.float32) + np.float32(1e-6)}, "weights"),
            ("federated", {"weights": np.arange(5, dtype=np.float64)}, "weights"),
            ("federated", {"line": (0.1, 0.91)}, "line"),
            ("federated", {"admitted": 0.61}, "prediction"),
            ("federated", {"limit": 2.1}, "prediction"),
            ("federated", {"centre": np.full(3, 1e-9)}, "prediction"),
            ("federated", {"precision": 2 * np.eye(3)}, "prediction"),
            ("federated", {"architecture": "logistic"}, "architecture"),
            ("federated", {"label": "tuned-since"}, "model `tuned-since`"),
            ("federated", {"label": "federated-raw", "threshold": 0.3}, "line"),
            ("raw", {"threshold": 0.4}, "threshold"),
            ("raw", {"label": "federated"}, "line"),
            ("logistic", {"weights": np.zeros(4)}, "weights"),
            ("logistic", {"label": "federated-raw"}, "weights"),
            ("prepare", {"mean": np.full(3, 1e-9)}, "preparation"),
            ("prepare", {"scale": np.full(3, 2.0)}, "preparation"),
            ("release", {"weights": np.ones(5, np.float32)}, "weights"),
            ("release", {"threshold": 0.5}, "threshold"),
            ("release", {"line": np.array([0.0, 1.0])}, "line"),
            ("release", {"limit": 3.0}, "prediction"),
        ],
    )
    def test_one_change_is_refused_and_named(self, shown, sealed, asked, name, change, item):
        gate = shown(sealed)
        with pytest.raises(NotAsSealed, match=item):
            gate.admit(changed(asked[name], **change))

    def test_the_shift_and_what_the_sites_share_in_a_study_that_harmonises(self, home, ask, make_study):
        study = make_study(harmonisation={})
        approve(home, study, by="officer")
        unseen = ask("harmonise", study, site="coast", scope="unseen")
        whole = ask("evaluate", study, site="coast", split="all")
        gate = open_site(home, study, unseen, whole)
        gate.admit(encode(unseen))
        gate.admit(encode(whole))
        with pytest.raises(NotAsSealed, match="harmonisation"):
            gate.admit(changed(unseen, level=np.ones(3)))
        with pytest.raises(NotAsSealed, match="shift"):
            gate.admit(changed(whole, shift="none"))


class TestSealsRefused:
    def test_another_seal_of_the_run(self, shown, sealed):
        shown(sealed)
        with pytest.raises(SealChanged, match="threshold"):
            shown(sealed.model_copy(update={"threshold": 0.2}))

    def test_one_that_nobody_signed_or_that_changed_since(self, shown, sealed, key):
        signed = sealed.signed(key)
        for seal in (
            signed.model_copy(update={"signature": "0" * 128}),
            signed.model_copy(update={"threshold": 0.2}),
            signed.model_copy(update={"contributed": ()}),
        ):
            with pytest.raises(SealRefused, match="signed"):
                shown(seal)

    def test_one_of_another_coordinator_though_trusted_too(self, home, tmp_path, shown, sealed, key):
        other = Signer.make(tmp_path / "other.key")
        trust(home, "Another coordinator", other.public, by="officer")
        with pytest.raises(SealRefused, match="another coordinator"):
            shown(sealed.signed(other), by=key)

    @pytest.mark.parametrize("text", ["", "{}", "[]", "null"])
    def test_what_is_none(self, shown, sealed, text):
        with pytest.raises(SealRefused):
            shown(sealed, text=text)

    def test_one_written_otherwise(self, shown, sealed, key):
        with pytest.raises(SealRefused, match="not written"):
            shown(sealed, text=sealed.signed(key).text + " ")

    def test_one_of_another_run_of_the_study(self, shown, sealed):
        with pytest.raises(SealRefused, match="run-9"):
            shown(sealed.model_copy(update={"run": "run-9"}))

    def test_one_of_another_study(self, shown, sealed, make_study):
        other = make_study(prediction={}, seed=2)
        with pytest.raises(SealRefused, match="differs from the approved"):
            shown(sealed.model_copy(update={"fingerprint": other.fingerprint}))

    def test_one_that_was_changed_on_the_sites_disk(self, home, shown, sealed, asked):
        shown(sealed)
        path = home / "gate" / "sealed" / "run-1.json"
        path.write_text(path.read_text().replace('"threshold":0.4', '"threshold":0.5'))
        with pytest.raises(SealDamaged):
            Gate(home, "coast").admit(encode(asked["federated"]))


class TestAddedLater:
    """A hospital that was not in the sealed study validates it in a study that is the same but for it and the title."""

    @pytest.fixture
    def extended(self, make_study, home, predicting):
        def make(**changes):
            roles = [
                *({"name": s.name, "role": s.role} for s in predicting.sites),
                {"name": "isle", "role": "validate"},
            ]
            study = make_study(**{"prediction": {}, "sites": roles, "title": "With one more", **changes})
            approve(home, study, by="officer")
            return study

        return make

    def open_isle(self, home, asked, sealed, key, study, run="run-1-validated"):
        header = {"fingerprint": study.fingerprint, "run": run, "site": "isle"}
        gate, request = Gate(home, "isle"), asked["federated"].model_copy(update=header)
        gate.admit(encode(opening(sealed.signed(key), request)), key.public)
        return gate, request

    def test_is_opened_in_a_run_of_its_own(self, home, asked, sealed, key, extended):
        gate, request = self.open_isle(home, asked, sealed, key, extended())
        gate.admit(encode(request))
        with pytest.raises(NotAsSealed):
            gate.admit(changed(request, threshold=0.5))

    def test_not_in_a_run_of_the_sealed_ones_name(self, home, asked, sealed, key, extended):
        with pytest.raises(SealRefused, match="run-1"):
            self.open_isle(home, asked, sealed, key, extended(), run="run-1")

    @pytest.mark.parametrize("changes", [{"seed": 2}, {"split": {"test": 0.3}}, {"evaluation": {"ridge": 1.0}}])
    def test_not_where_anything_else_is_another(self, home, asked, sealed, key, extended, changes):
        with pytest.raises(SealRefused, match="differs from the approved"):
            self.open_isle(home, asked, sealed, key, extended(**changes))

    def test_not_where_a_site_trains_that_did_not(self, home, asked, sealed, key, extended, predicting):
        roles = [*({"name": s.name, "role": s.role} for s in predicting.sites), {"name": "isle", "role": "validate"}]
        study = extended(sites=[*roles, {"name": "cape", "role": "train"}])
        with pytest.raises(SealRefused, match="differs from the approved"):
            self.open_isle(home, asked, sealed, key, study)

    def test_not_where_it_took_part_in_the_sealed_run(self, home, ask, asked, sealed, key, extended, make_study):
        trained = make_study(sites=[{"name": n, "role": "train"} for n in ("north", "isle")])
        approve(home, trained, by="officer")
        Gate(home, "isle").admit(encode(ask("describe", trained, site="isle")))
        with pytest.raises(NotExternal, match="run-1"):
            self.open_isle(home, asked, sealed, key, extended())
