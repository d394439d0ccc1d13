"""Real refusals of the system: ingest runs as a user who may not read a folder or a file of a synthetic hospital.

Where the tests run as root, who may read everything, ingest is run by a process that has given that up: it drops all
capabilities (capabilities(7), CAP_DAC_OVERRIDE among them), and is an owner like any other.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

INGEST = """
import ctypes, json, sys
from pathlib import Path
from fedloupe.errors import FedLoupeError
from fedloupe.study import parse_study
from fedloupe_client.config import SiteConfig
from fedloupe_client.ingest import ingest
config, study = SiteConfig.model_validate_json(sys.argv[1]), parse_study(json.loads(sys.argv[2]))
header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
if ctypes.CDLL(None, use_errno=True).capset(header, none):
    raise OSError(ctypes.get_errno(), "capset")
try:
    records = ingest(config, study, Path(sys.argv[3])).records
    print(json.dumps({record.case: [record.status, record.kind, record.code] for record in records}))
except FedLoupeError as error:
    print(json.dumps([error.code, error.kind]))
"""


@pytest.fixture
def run(tmp_path, hospitals, make_study):
    """Take the permission away, ingest, give it back: what became of each case, or the refusal of all."""
    _, dicom, _ = hospitals
    site = dicom(tmp_path / "hospital")
    site.two_patients()
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    config = site.config().model_copy(update={"site": "island"})

    def refused(name: str):
        path = site.root / name
        before = path.stat().st_mode
        path.chmod(0)
        content = [config.model_dump_json(), json.dumps(make_study().model_dump(mode="json")), str(home)]
        try:
            done = subprocess.run([sys.executable, "-c", INGEST, *content], capture_output=True, text=True, check=False)
        finally:
            path.chmod(before)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        if isinstance(found, list):
            return found
        with (home / "ingest-local.csv").open() as file:
            return {row["local_id"]: found[row["case"]] for row in csv.DictReader(file)}

    return refused


READY, REFUSED = ["ready", None, None], ["broken", "permission", "FL-203"]


@pytest.mark.parametrize(
    "name", ["images/P-0001", "images/P-0001/t2w", "images/P-0001/t2w/003.dcm", "images/P-0001/rs-t2w.dcm"]
)
def test_what_belongs_to_one_case_costs_that_case(run, name):
    assert run(name) == {"P-0001": REFUSED, "P-0002": READY}


@pytest.mark.parametrize("name", ["images", "clinical.csv", "."])
def test_what_belongs_to_all_stops_ingest(run, name):
    assert run(name) == ["FL-203", "permission"]
