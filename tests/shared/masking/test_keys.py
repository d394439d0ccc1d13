"""Masks that cancel over the sites, secrets that a majority finds again, and shares that only their member opens."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from fedloupe.masking import Secrets, Term, add_terms, threshold_of, unmask
from fedloupe.masking.keys import _pair_seed, expand
from fedloupe.masking.shamir import join
from fedloupe.masking.vectors import negated

SETUP, DIGEST, SUMS = "ab" * 16, "cd" * 32, 4


@dataclass
class Group:
    """Sites with everything that they publish."""

    names: list[str]

    def __post_init__(self) -> None:
        self.secrets = {n: Secrets(n.encode().ljust(32, b"."), SETUP, n) for n in self.names}
        self.channels = np.stack([s.channel for s in self.secrets.values()])
        self.masks = np.stack([s.masks(SUMS) for s in self.secrets.values()])
        self.boxes = {n: s.boxes(self.names, self.channels, SUMS) for n, s in self.secrets.items()}
        rng = np.random.default_rng(3)
        self.terms = {
            n: Term(rng.integers(-(2**63), 2**63 - 1, (3, 6)), rng.integers(-(2**63), 2**63 - 1, 5)) for n in self.names
        }

    def masked(self, name: str, session: int = 1, digest: str = DIGEST) -> Term:
        return self.secrets[name].mask(self.terms[name], session, digest, self.names, self.masks[:, session])

    def for_(self, name: str, session: int = 1) -> np.ndarray:
        return np.stack([self.boxes[n][self.names.index(name), session] for n in self.names])

    def opened(self, name: str, there: list[str], session: int = 1) -> np.ndarray:
        return self.secrets[name].open(session, self.names, self.channels, self.for_(name, session), there)


@pytest.fixture
def group() -> Group:
    return Group(["a", "b", "c", "d", "e"])


def equal(one: Term, two: Term) -> bool:
    return np.array_equal(one.wide, two.wide) and np.array_equal(one.narrow, two.narrow)


class TestSums:
    @pytest.mark.parametrize("size", [3, 4, 6])
    def test_masks_come_off_for_every_number_of_sites(self, size):
        group = Group([f"s{i}" for i in range(size)])
        opened = {n: group.opened(n, group.names) for n in group.names}
        added = add_terms([group.masked(n) for n in group.names])
        found = unmask(added, SETUP, 1, DIGEST, group.names, group.masks[:, 1], group.names, opened)
        assert equal(found, add_terms(list(group.terms.values())))

    @pytest.mark.parametrize("there", [list(t) for k in (3, 4) for t in itertools.combinations("abcde", k)])
    def test_whoever_is_missing_their_masks_come_off(self, group, there):
        helpers = there[:3]
        opened = {n: group.opened(n, there) for n in helpers}
        found = unmask(
            add_terms([group.masked(n) for n in there]), SETUP, 1, DIGEST, group.names, group.masks[:, 1], there, opened
        )
        assert equal(found, add_terms([group.terms[n] for n in there]))

    def test_sites_that_did_not_answer_can_help(self, group):
        there, helpers = ["a", "b", "c"], ["c", "d", "e"]
        opened = {n: group.opened(n, there) for n in helpers}
        found = unmask(
            add_terms([group.masked(n) for n in there]), SETUP, 1, DIGEST, group.names, group.masks[:, 1], there, opened
        )
        assert equal(found, add_terms([group.terms[n] for n in there]))

    def test_fewer_than_a_threshold_cannot(self, group):
        opened = {n: group.opened(n, group.names) for n in "ab"}
        with pytest.raises(ValueError, match="2 of 5"):
            unmask(group.masked("a"), SETUP, 1, DIGEST, group.names, group.masks[:, 1], group.names, opened)

    def test_a_threshold_is_more_than_half(self):
        assert [threshold_of(n) for n in (3, 4, 5, 6, 7)] == [2, 3, 3, 4, 4]


class TestMasks:
    def test_they_depend_on_site_sum_and_what_was_asked(self, group):
        every = [group.masked("a"), group.masked("a", 2), group.masked("a", 1, "ef" * 32)]
        assert all(not (x.narrow == y.narrow).any() for x, y in itertools.combinations(every, 2))
        assert equal(group.masked("a"), group.masked("a"))

    def test_all_pairwise_masks_without_the_own_one_cancel(self, group):
        """What is left of the sum of masked zeros are the own masks: the pairs' have cancelled."""
        zero = Term(np.zeros((3, 6), np.int64), np.zeros(5, np.int64))
        group.terms = dict.fromkeys(group.names, zero)
        alone = [group.secrets[n].mask(zero, 1, DIGEST, [n], group.masks[:1, 1]) for n in group.names]
        assert equal(add_terms([group.masked(n) for n in group.names]), add_terms(alone))

    def test_masks_of_a_pair_that_was_asked_different_things_do_not_cancel(self, group):
        zero = Term(np.zeros((3, 6), np.int64), np.zeros(5, np.int64))
        group.terms = dict.fromkeys(group.names, zero)
        asked = {n: "ef" * 32 if n == "c" else DIGEST for n in group.names}
        alone = [group.secrets[n].mask(zero, 1, asked[n], [n], group.masks[:1, 1]) for n in group.names]
        assert all(term.wide.any() and term.narrow.any() for term in alone)
        added = add_terms([group.masked(n, 1, asked[n]) for n in group.names])
        assert not (added.narrow == add_terms(alone).narrow).any()

    def test_bits_are_fair(self):
        mask = expand(b"k" * 32, Term(np.zeros((500, 6), np.int64), np.zeros(5000, np.int64)))
        for words in (mask.wide, mask.narrow):
            bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8).reshape(-1, 8), axis=1)
            assert (np.abs(bits.mean(axis=0) - 0.5) < 6 * 0.5 / len(bits) ** 0.5).all()


class TestOwnMask:
    def test_who_vanished_after_sending_stays_masked_although_the_pairs_key_is_known(self, group):
        """A coordinator that holds the term of a site which it called missing: the others open that site's key."""
        there = ["a", "b", "c", "d"]
        place, opened = 4, {n: group.opened(n, there) for n in there}
        key = join({group.names.index(n): rows[place] for n, rows in opened.items()}).tobytes()
        left = [group.masked("e")]
        for other, public in zip(there, group.masks[:4, 1], strict=True):
            mask = expand(_pair_seed(key, public.tobytes(), SETUP, 1, DIGEST, ("e", other)), left[0])
            left.append(mask if other < "e" else negated(mask))
        bare = add_terms(left)
        assert not (bare.narrow == group.terms["e"].narrow).any()
        own = group.secrets["e"].mask(
            Term(np.zeros((3, 6), np.int64), np.zeros(5, np.int64)), 1, DIGEST, ["e"], group.masks[4:, 1]
        )
        assert equal(add_terms([bare, negated(own)]), group.terms["e"])  # nothing else was in the way


class TestShares:
    def test_a_box_does_not_hold_the_share_in_the_clear(self, group):
        share = group.secrets["a"]._split(1, group.names)[1]
        assert share.tobytes() not in group.boxes["a"][1, 1].tobytes()
        assert (share == group.boxes["a"][1, 1][: len(share)]).mean() < 0.2

    def test_a_box_opens_for_its_member_alone(self, group):
        stolen = group.for_("b")
        with pytest.raises(ValueError, match="a"):
            group.secrets["c"].open(1, group.names, group.channels, stolen, group.names)

    @pytest.mark.parametrize("change", ["bit", "session", "sender", "reflected"])
    def test_an_altered_box_is_refused_and_its_member_named(self, group, change):
        boxes = group.for_("b").copy()
        if change == "bit":
            boxes[2, 5] ^= 1
        elif change == "session":
            boxes[2] = group.boxes["c"][1, 2]
        elif change == "reflected":  # what b itself sealed for c
            boxes[2] = group.boxes["b"][2, 1]
        else:
            boxes[2] = boxes[3]
        with pytest.raises(ValueError, match="c"):
            group.secrets["b"].open(1, group.names, group.channels, boxes, group.names)

    def test_of_a_member_either_secret_is_given_never_both(self, group):
        own, pair = group.opened("b", group.names), group.opened("b", ["a", "b", "d"])
        assert np.array_equal(own[0], pair[0])  # a answered in both
        assert not (own[2] == pair[2]).all()  # of c the seed, or the key
        assert own.shape == pair.shape == (5, 32)

    def test_the_same_root_gives_the_same_bytes_another_root_others(self, group):
        again, other = Secrets(group.secrets["a"].root, SETUP, "a"), Secrets(b"x" * 32, SETUP, "a")
        assert np.array_equal(again.boxes(group.names, group.channels, SUMS), group.boxes["a"])
        assert not (other.masks(SUMS) == group.masks[0]).all(axis=1).any()

    def test_a_key_serves_one_sum(self, group):
        assert len(np.unique(group.masks.reshape(-1, 32), axis=0)) == 5 * SUMS
