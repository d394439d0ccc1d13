"""The commands of docs/deployment.md, run as they stand: from nothing to joined hospitals, renewals and a revocation.

Coordinator and hospitals each have a folder of their own; between them go the files that the page says are sent, and
the fingerprints that it says are read out on the telephone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from federations import digests, small_study
from fedloupe.enrolment import read_request
from fedloupe.signing import Signer, spoken
from fedloupe_client.gate import approved, trusted, verify
from fedloupe_client.joining import installed
from fedloupe_server.provision import load_federation

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"
BLOCK = re.compile(r"<!-- run: (coordinator|hospital (\w+)) -->\n```\n(.*?)```", re.DOTALL)
SITE_YAML = "site: {site}\nsource: {{format: table, root: ., clinical: {{file: c.csv}}, features: c.csv}}\n"
COMMANDS = {"fedloupe": "fedloupe_server.cli", "fedloupe-site": "fedloupe_client.cli"}


class Parties:
    """A coordinator and hospitals, each in a folder, with a post between them and a telephone."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.fed = folder, folder / "coordinator" / "FED"
        for name in ("coordinator", "bin"):
            (folder / name).mkdir()
        (folder / "coordinator" / "study.yaml").write_text(small_study().canonical)
        for name, module in COMMANDS.items():
            (folder / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
            (folder / "bin" / name).chmod(0o755)
        self.asked = ""

    def home(self, site: str) -> Path:
        return self.folder / site / "home"

    def run(self, site: str | None, commands: str) -> subprocess.CompletedProcess[str]:
        """One block, at the coordinator's or at a hospital's, and the post afterwards."""
        where = self.folder / (site or "coordinator")
        where.mkdir(exist_ok=True)
        env = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "FED": str(self.fed)}
        env |= {"PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "120"}
        if site is None:
            env["SITE_KEY"] = self.asked
        else:
            del env["FED"]
            env |= {"SITE": str(self.home(site)), "COORDINATOR": self.coordinator}
        done = subprocess.run(
            ["bash", "-eu", "-c", commands], cwd=where, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{site or 'coordinator'}: {commands}\n{done.stdout}\n{done.stderr}"
        self.post(site)
        return done

    @property
    def coordinator(self) -> str:
        """What the coordinator reads out."""
        return spoken(Signer.load(self.fed / "coordinator.key").public)

    def post(self, site: str | None) -> None:
        if site is None:
            for kit in (self.fed / "kits").glob("*.kit"):
                if (self.folder / kit.stem).is_dir():
                    shutil.copy(kit, self.folder / kit.stem / kit.name)
            return
        request = self.home(site) / f"{site}.request.json"
        shutil.copy(request, self.folder / "coordinator" / request.name)
        self.asked = spoken(read_request(request).site_key)  # read out by the hospital
        if not (self.home(site) / "site.yaml").exists():
            (self.home(site) / "site.yaml").write_text(SITE_YAML.format(site=site))


@pytest.fixture(scope="module")
def blocks() -> list[tuple[str | None, str]]:
    return [(site or None, text) for _, site, text in BLOCK.findall(PAGE.read_text(encoding="utf-8"))]


class TestTheDocumentedCommands:
    def test_lead_from_nothing_to_joined_renewed_and_revoked_hospitals(self, blocks, tmp_path):
        parties = Parties(tmp_path)
        assert PAGE.read_text(encoding="utf-8").count("<!-- run:") == len(blocks) >= 13
        for site, text in blocks:
            untouched = {name: digests(parties.home(name)) for name in ("north", "south") if name != site}
            parties.run(site, text)
            for name, before in untouched.items():
                assert digests(parties.home(name)) == before, "nobody writes in another's folder"
        federation = load_federation(parties.fed)
        north, south = installed(parties.home("north")), installed(parties.home("south"))
        assert (north.number, south.number) == (4, 2)
        assert [one.site for one in federation.couriers if not one.superseded] == ["north"]
        assert federation.sites["south"].revoked.reason == "left the study"
        assert set(approved(parties.home("north"))) == {small_study().fingerprint}
        assert approved(parties.home("south")) == {}, "joining approves no study"
        assert [one.by for one in trusted(parties.home("north")).values()] == ["Dr Ito"]
        assert verify(parties.home("north")) == []
        flower = parties.home("north") / "courier" / "flower" / "approved"
        assert flower.read_text().strip() == federation.record.bundle_sha256
        said = json.loads(parties.run("north", 'fedloupe-site status "$SITE" --json').stdout)
        assert {line["state"] for lines in said.values() for line in lines} == {"ok"}
