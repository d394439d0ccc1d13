"""A site's part in secure sums: what it refuses, what it remembers, and what a restart leaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certified import Registrar
from fedloupe.masked import SESSIONS
from fedloupe.masking import Secrets, sum_digest
from fedloupe.messages import KeysRequest, SharesRequest, SumRequest, TrainReply, TrainRequest, UnmaskRequest, encode
from fedloupe.study import parse_study
from fedloupe_client.gate.errors import SetupUnknown, SumRefused
from fedloupe_client.gate.peers import Peers
from fedloupe_client.gate.sums import SecureSums

NAMES = ("east", "north", "south", "west")
SETUP = "ab" * 16
STUDY = parse_study(
    {
        "study": "sums",
        "title": "Secure sums",
        "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
        "sites": [{"name": n, "role": "train"} for n in (*NAMES, "york")] + [{"name": "coast", "role": "validate"}],
        "radiomics": {"source": "table"},
    }
)
HEADER: dict[str, Any] = {"version": "0.1.0", "fingerprint": "0" * 64, "run": "trial"}


class Site:
    """One real site and what the others published."""

    def __init__(self, home: Path) -> None:
        self.registrar = Registrar(home / "registrar")
        self.home, self.run = self.registrar.home(home, "north"), HEADER["run"]
        self.others = {n: Secrets(os.urandom(32), SETUP, n) for n in (*NAMES, "york", "coast") if n != "north"}

    @property
    def header(self) -> dict[str, Any]:
        return HEADER | {"run": self.run}

    @property
    def sums(self) -> SecureSums:
        return SecureSums(self.home, "north")  # a new process each time

    def keys(self, setup: str = SETUP) -> Any:
        return self.sums.keys(KeysRequest(**self.header, site="north", setup=setup))

    def request(self, members: tuple[str, ...] = NAMES, **changes: Any) -> SharesRequest:
        own = self.keys()
        channels = {n: s.channel for n, s in self.others.items()} | {"north": own.channel}
        masks = {n: s.masks(SESSIONS) for n, s in self.others.items()} | {"north": own.masks}
        fields: dict[str, Any] = {
            "members": members,
            "channels": np.stack([channels[n] for n in members]),
            "masks": np.stack([masks[n] for n in members]),
        } | changes
        return SharesRequest(**self.header, site="north", setup=SETUP, **self.proven(fields))

    def proven(self, fields: dict[str, Any], **others: str) -> dict[str, Any]:
        """With each member's certificate and signature, or those of the site that stands for it in `others`."""
        about, proofs = KeysRequest(**self.header, site="north", setup=SETUP), []
        for place, name in enumerate(fields["members"]):
            keys = fields["channels"][place], fields["masks"][place]
            if name == "north":
                proofs.append(Peers(self.home, "north").prove(about, *keys))
            else:
                proofs.append(self.registrar.proof(others.get(name, name), about, *keys))
        certificates, signatures = zip(*proofs, strict=True)
        return {"certificates": certificates, "signatures": signatures, **fields}

    def set_up(self) -> SharesRequest:
        request = self.request()
        self.sums.shares(request, STUDY)
        return request

    def mask(self, session: int = 0, weights: float = 1.0, setup: str = SETUP, found: float = 0.5) -> Any:
        sent, trained = (np.array([value], np.float32) for value in (weights, found))
        inner = TrainRequest(**self.header, site="north", round=1, scope="federated", weights=sent)
        blob = np.frombuffer(encode(inner), dtype=np.uint8)
        reply = TrainReply(**self.header, site="north", round=1, weights=trained, patients=9, loss=0.5, epsilon=None)
        request = SumRequest(**self.header, site="north", setup=setup, session=session, inner=blob)
        return self.sums.mask(request, sum_digest(inner), reply, STUDY)

    def unmask(self, there: tuple[str, ...] = NAMES, session: int = 0, agreed: SharesRequest | None = None) -> Any:
        agreed = agreed or self.request()
        boxes = np.zeros((len(NAMES), 80), dtype=np.uint8)
        for place, name in enumerate(NAMES):
            if name != "north":
                boxes[place] = self.others[name].boxes(NAMES, agreed.channels, SESSIONS)[NAMES.index("north"), session]
        return self.sums.unmask(
            UnmaskRequest(**self.header, site="north", setup=SETUP, session=session, contributors=there, boxes=boxes)
        )


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


class TestKeys:
    def test_the_same_set_up_has_the_same_keys_also_after_a_restart(self, site):
        one, two = site.keys(), site.keys()
        assert np.array_equal(one.channel, two.channel) and np.array_equal(one.masks, two.masks)

    def test_a_new_set_up_has_new_keys_and_destroys_the_old_secrets(self, site):
        first = site.keys()
        agreed = site.set_up()
        site.mask()
        site.unmask(agreed=agreed)
        second = site.keys("cd" * 16)
        assert not np.array_equal(first.channel, second.channel)
        left = {path.name for path in (site.home / "gate" / "sums" / "trial").iterdir()}
        assert f"{'cd' * 16}.root" in left and not any(name.startswith(SETUP) for name in left)
        assert list((site.home / "gate" / "sums-opened").iterdir())  # over whom a request was added up stays known
        with pytest.raises(SetupUnknown):
            site.mask()

    def test_the_secret_is_readable_by_its_owner_alone(self, site):
        site.keys()
        (path,) = (site.home / "gate" / "sums" / "trial").glob("*.root")
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(path.read_bytes()) == 32

    def test_runs_share_no_secret(self, site):
        one = site.keys()
        two = site.sums.keys(KeysRequest(**{**HEADER, "run": "trial/without-east"}, site="north", setup=SETUP))
        assert not np.array_equal(one.channel, two.channel)


class TestMembers:
    @pytest.mark.parametrize(
        "members",
        [("east", "south", "west"), ("north", "east", "south"), ("coast", "east", "north"), ("east", "north", "north")],
        ids=["without this site", "not sorted", "one only validates", "one twice"],
    )
    def test_who_does_not_belong_is_refused(self, site, members):
        with pytest.raises(SumRefused, match="members"):
            site.sums.shares(site.request(members), STUDY)

    def test_another_key_for_this_site_is_refused(self, site):
        channels = site.request().channels.copy()
        channels[1] = Secrets(b"x" * 32, SETUP, "north").channel
        with pytest.raises(SumRefused, match="not this site's"):
            site.sums.shares(site.request(channels=channels), STUDY)

    def test_one_key_for_two_members_is_refused(self, site):
        channels = site.request().channels.copy()
        channels[0] = channels[2]
        with pytest.raises(SumRefused, match="twice"):
            site.sums.shares(site.request(channels=channels), STUDY)

    def test_a_key_that_gives_no_secret_is_refused(self, site):
        channels = site.request().channels.copy()
        channels[0] = 0
        with pytest.raises(SumRefused, match="gives no secret"):
            site.sums.shares(site.request(channels=channels), STUDY)

    def test_a_damaged_list_of_members_asks_for_a_new_set_up(self, site):
        site.set_up()
        (path,) = (site.home / "gate" / "sums" / "trial").glob("*.members")
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(SetupUnknown, match="members"):
            site.mask()

    def test_keys_of_another_shape_are_refused(self, site):
        with pytest.raises(SumRefused, match="shape"):
            site.sums.shares(site.request(masks=site.request().masks[:, :3]), STUDY)

    def test_other_members_for_the_same_set_up_are_refused(self, site):
        site.set_up()
        with pytest.raises(SumRefused, match="other members"):
            site.sums.shares(site.request((*NAMES, "york")), STUDY)
        assert np.array_equal(*(site.sums.shares(site.request(), STUDY).boxes for _ in range(2)))

    def test_without_keys_there_are_no_shares(self, site, tmp_path):
        request = site.request()
        other = SecureSums(site.registrar.home(tmp_path / "other", "north"), "north")
        with pytest.raises(SetupUnknown):
            other.shares(request, STUDY)


class TestMasking:
    def test_the_same_request_gets_the_same_bytes_again_also_after_a_restart(self, site):
        site.set_up()
        assert encode(site.mask()) == encode(site.mask())

    def test_a_second_vector_under_the_same_masks_is_refused(self, site):
        """The difference of the two would be bare."""
        site.set_up()
        site.mask(weights=1.0)
        with pytest.raises(SumRefused, match="another answer under this sum's masks"):
            site.mask(weights=2.0)
        site.mask(session=1, weights=2.0)

    def test_nor_is_another_answer_to_the_same_request(self, site):
        """As after another preparation was installed."""
        site.set_up()
        site.mask()
        with pytest.raises(SumRefused, match="another answer under this sum's masks"):
            site.mask(found=0.7)

    def test_without_agreed_members_nothing_is_masked(self, site):
        site.keys()
        with pytest.raises(SetupUnknown, match="members"):
            site.mask()

    def test_what_leaves_is_not_the_answer(self, site):
        site.set_up()
        reply = site.mask()
        assert reply.of == "train-reply" and reply.layout == {"patients": (), "weights": (1,), "loss": ()}
        assert 9 not in reply.narrow.tolist()


class TestUnmasking:
    def test_shares_of_every_member_are_given(self, site):
        agreed = site.set_up()
        site.mask()
        assert site.unmask(agreed=agreed).shares.shape == (4, 32)

    @pytest.mark.parametrize(
        ("there", "why"),
        [
            (("east", "north", "york"), "contributors"),
            (("north", "east", "south"), "contributors"),
            (("east", "north", "south", "south"), "contributors"),
        ],
    )
    def test_contributors_who_are_no_members_are_refused(self, site, there, why):
        site.set_up()
        with pytest.raises(SumRefused, match=why):
            site.unmask(there)

    def test_fewer_than_three_contributors_do_not_even_make_a_request(self, site):
        agreed = site.set_up()
        with pytest.raises(ValueError, match="contributors"):
            site.unmask(("east", "north"), agreed=agreed)

    def test_a_second_set_of_contributors_for_one_sum_is_refused(self, site):
        """Both secrets of a member would be given: its own mask's seed and its key."""
        agreed = site.set_up()
        site.mask()
        site.unmask(NAMES, agreed=agreed)
        with pytest.raises(SumRefused, match="another set of sites"):
            site.unmask(("east", "north", "south"), agreed=agreed)
        assert np.array_equal(*(site.unmask(NAMES, agreed=agreed).shares for _ in range(2)))

    def test_the_same_request_with_another_answer_in_a_later_sum_is_refused(self, site):
        """As after the policy was loosened: the difference of the two sums would be what the first held back."""
        agreed = site.set_up()
        site.mask(session=0)
        site.unmask(NAMES, agreed=agreed)
        site.mask(session=1, found=0.7)
        with pytest.raises(SumRefused, match="another answer of this site"):
            site.unmask(NAMES, session=1, agreed=agreed)
        site.mask(session=2)
        site.unmask(NAMES, session=2, agreed=agreed)

    def test_the_same_request_over_another_set_in_a_later_sum_is_refused(self, site):
        """The difference of the two sums would be one site's answer."""
        agreed = site.set_up()
        site.mask(session=0)
        site.unmask(NAMES, agreed=agreed)
        site.mask(session=1)
        with pytest.raises(SumRefused, match="same request over another set"):
            site.unmask(("east", "north", "south"), session=1, agreed=agreed)

    def test_nor_is_it_in_another_run(self, site):
        """Sums of a site's patients are the same in every run."""
        agreed = site.set_up()
        site.mask(session=0)
        site.unmask(NAMES, agreed=agreed)
        site.run = "another"
        agreed = site.set_up()
        site.mask(session=0)
        with pytest.raises(SumRefused, match="same request over another set"):
            site.unmask(("east", "north", "south"), agreed=agreed)
        site.mask(session=1)
        assert site.unmask(NAMES, session=1, agreed=agreed).shares.shape == (4, 32)

    @pytest.mark.parametrize("there", [NAMES, ("east", "south", "west")])
    def test_a_site_whose_answer_is_not_in_the_sum_does_not_help(self, site, there):
        """It could not tell a second sum of the same request."""
        agreed = site.set_up()
        if "north" not in there:
            site.mask()
        with pytest.raises(SumRefused, match="answer is not in it"):
            site.unmask(there, agreed=agreed)

    def test_a_box_that_its_member_did_not_seal_is_refused_and_named(self, site):
        agreed = site.set_up()
        site.mask()
        site.others["south"] = Secrets(os.urandom(32), SETUP, "south")
        with pytest.raises(SumRefused, match="shares of south do not open"):
            site.unmask(agreed=agreed)


class TestThreshold:
    def test_enough_must_have_answered_for_two_honest_ones_beside_a_colluding_minority(self, tmp_path):
        """Of seven, three may collude: with four that answered, one of them alone could be honest."""
        names = ("east", "north", "south", "west", "york", "zeal", "zinc")
        sites = [{"name": n, "role": "train"} for n in names]
        study = STUDY.model_validate({**STUDY.model_dump(mode="json"), "sites": sites})
        others = {n: Secrets(os.urandom(32), SETUP, n) for n in names if n != "north"}
        site = Site(tmp_path)
        sums = site.sums
        own = sums.keys(KeysRequest(**HEADER, site="north", setup=SETUP))
        channels = np.stack([own.channel if n == "north" else others[n].channel for n in names])
        masks = np.stack([own.masks if n == "north" else others[n].masks(SESSIONS) for n in names])
        fields = site.proven({"members": names, "channels": channels, "masks": masks})
        sums.shares(SharesRequest(**HEADER, site="north", setup=SETUP, **fields), study)
        with pytest.raises(SumRefused, match="4 of 7 sites answered"):
            sums.unmask(
                UnmaskRequest(
                    **HEADER,
                    site="north",
                    setup=SETUP,
                    session=0,
                    contributors=("east", "north", "south", "west"),
                    boxes=np.zeros((7, 80), np.uint8),
                )
            )
