"""Attacks on a hospital's gate: each is refused with its own code, leaves a line in the audit chain, and does nothing.

The site is a real one with approved study, trusted coordinator and data. What an attacker at the coordinator, on the
line, or in the courier can send is tried; the last test runs them all and holds the chain to it.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedloupe import __version__
from fedloupe.messages import (
    DescribeRequest,
    EvaluateRequest,
    Failure,
    HelloReply,
    HelloRequest,
    TrainRequest,
    decode,
    encode,
)
from fedloupe.sealed import seal
from fedloupe.signing import Signer
from fedloupe_client.config import load_site
from fedloupe_client.courier.approved import prepare, require_approved
from fedloupe_client.gate import Audit, approve
from fedloupe_client.ingest import ingest
from fedloupe_client.site.server import desk_of, note, serve
from fedloupe_client.site.site import Site
from fedloupe_server.simulation.enrolling import enrol_here
from fedloupe_server.simulation.sites import make_homes


class Hospital:
    """A site, and the ways in which it can be asked."""

    def __init__(self, folder: Path, study: Any, tables: Path) -> None:
        self.study, self.folder = study, folder
        homes = make_homes(study, tables / "sites.yaml", tables, folder / "homes")
        self.home = homes["alpha"]
        ingest(load_site(self.home), study, self.home)
        approve(self.home, study, by="officer")
        self.key = enrol_here(homes, folder)
        self.site = Site(self.home)
        self.header = {"version": __version__, "fingerprint": study.fingerprint, "run": "attacked", "site": "alpha"}

    def hello(self, **changes: Any) -> bytes:
        return encode(HelloRequest(**{**self.header, **changes}))

    def sealed(self, blob: bytes, key: Signer | None = None, **options: Any) -> bytes:
        return encode(seal(blob, key or self.key, **{"lifetime_s": 600, **options}))

    def code(self, blob: bytes) -> str:
        """What the site answers."""
        reply = decode(self.site.handle(blob))
        return reply.code if isinstance(reply, Failure) else reply.kind

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.home / "gate" / "audit.jsonl").read_text().splitlines()]


@pytest.fixture
def hospital(tmp_path, make_study, tables):
    return Hospital(tmp_path, make_study(), tables)


def bundle(**files: str) -> bytes:
    """An app bundle with more in it than it should have."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in {"pyproject.toml": "", "LICENSE": "free", **files}.items():
            archive.writestr(name, text)
    return content.getvalue()


def refused_bundle(hospital: Hospital, content: bytes) -> str:
    """The courier refuses it, and tells the site."""
    flower = hospital.folder / "flower"
    if not flower.exists():
        (hospital.folder / "approved.fab").write_bytes(bundle())
        prepare(flower, hospital.folder / "approved.fab")
    with pytest.raises(Exception) as refused:
        require_approved(content, flower)
    with tempfile.TemporaryDirectory(prefix="fl-") as folder:
        server = serve(desk_of(bytes), Path(folder) / "s", noted=hospital.site.gate.note_bundle)
        note(server.socket, refused.value.code, "ab" * 32, len(content), 60.0)
        server.stop(0)
    return str(refused.value.code)


def replayed(hospital: Hospital) -> str:
    blob = hospital.sealed(hospital.hello())
    assert hospital.code(blob) == "hello-reply"
    return hospital.code(blob)


def altered(hospital: Hospital) -> str:
    sealed = decode(hospital.sealed(hospital.hello()))
    inner = np.frombuffer(hospital.hello(run="another"), np.uint8)
    return hospital.code(encode(sealed.model_copy(update={"inner": inner})))


def of_the_round(hospital: Hospital, number: int, scope: str = "federated") -> bytes:
    return encode(TrainRequest(**hospital.header, round=number, scope=scope, weights=np.zeros(4, np.float32)))


def window_on_the_test_set(hospital: Hospital) -> bytes:
    """All patients of a training site, which its model was trained on: a membership test by another name."""
    fields = {"label": "federated", "architecture": "transformer", "split": "all", "threshold": 0.5}
    return encode(EvaluateRequest(**hospital.header, **fields, weights=np.zeros(4, np.float32)))


def other_site(hospital: Hospital) -> str:
    return hospital.code(hospital.sealed(hospital.hello(site="beta")))


def foreign_key(hospital: Hospital) -> str:
    return hospital.code(hospital.sealed(hospital.hello(), Signer.make(hospital.folder / "foreign.key")))


ATTACKS = {
    "a bundle with code": (lambda h: refused_bundle(h, bundle(**{"app/run.py": "import os"})), "FL-688"),
    "a bundle that shadows our package": (
        lambda h: refused_bundle(h, bundle(**{"fedloupe_client/courier/app.py": "app = None"})),
        "FL-689",
    ),
    "an unapproved bundle without code": (lambda h: refused_bundle(h, bundle(**{"LICENSE": "less free"})), "FL-628"),
    "another fingerprint": (lambda h: h.code(h.sealed(h.hello(fingerprint="ab" * 32))), "FL-501"),
    "an older version": (lambda h: h.code(h.sealed(h.hello(version="0.0.9"))), "FL-502"),
    "a replayed request": (replayed, "FL-528"),
    "an altered request": (altered, "FL-527"),
    "a request that nobody signed": (lambda h: h.code(h.hello()), "FL-525"),
    "a request that another key signed": (foreign_key, "FL-526"),
    "another hospital's request": (other_site, "FL-503"),
    "a request kept for a week": (lambda h: h.code(h.sealed(h.hello(), now=1_700_000_000)), "FL-529"),
    "a round that the study does not have": (lambda h: h.code(h.sealed(of_the_round(h, 3))), "FL-509"),
    "sums that the study does not ask": (
        lambda h: h.code(h.sealed(encode(DescribeRequest(**h.header, harmonised=True)))),
        "FL-508",
    ),
    "all patients of a hospital that trains": (lambda h: h.code(h.sealed(window_on_the_test_set(h))), "FL-510"),
    "bytes that are no message": (lambda h: h.code(b"\x80\x04\x95pickle"), "FL-601"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_each_is_refused_with_its_code_and_a_line(hospital, name):
    attack, code = ATTACKS[name]
    before = len(hospital.lines())
    assert attack(hospital) == code
    new = hospital.lines()[before:]
    assert code in [line["outcome"] for line in new if line["direction"] == "in"]
    assert not any(line["kind"] in ("train-reply", "evaluate-reply", "describe-reply") for line in new)


def test_no_two_are_refused_by_the_same_code():
    assert len({code for _, code in ATTACKS.values()}) == len(ATTACKS) >= 12


def test_after_all_of_them_the_chain_is_whole_and_the_site_answers_its_coordinator(hospital):
    for attack, _ in ATTACKS.values():
        attack(hospital)
    assert Audit(hospital.home).problems() == []
    reply = decode(hospital.site.handle(hospital.sealed(hospital.hello())))
    assert isinstance(reply, HelloReply) and reply.train > 0
    assert not (hospital.home / "gate" / "trained" / "attacked").exists(), "no patient shaped anything"
