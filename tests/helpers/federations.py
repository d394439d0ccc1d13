"""A small federation in a folder, and hospitals that join it, by the functions that the commands call."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fedloupe.certificates import utc_now
from fedloupe.enrolment import Kit, document_bytes, sign_kit
from fedloupe.signing import Signer, spoken
from fedloupe.study import Study, parse_study
from fedloupe_client.joining import Installed, check_kit, initialise, join
from fedloupe_server.hub.flower import Flower
from fedloupe_server.provision import Enrolled, Founded, enrol, provision

APP = Path(__file__).parents[2] / "configs" / "app"
ADDRESS = "fl.example.org:443"
SITES = ("north", "south", "west")


def small_study(**changes: Any) -> Study:
    """A study of three sites on tables."""
    content = {
        "study": "small",
        "title": "Synthetic tables",
        "synthetic": True,
        "endpoint": {"name": "response", "column": "y", "positive": ["1"], "negative": ["0"]},
        "sites": [{"name": name, "role": "train"} for name in SITES],
        "radiomics": {"source": "table"},
    }
    return parse_study({**content, **changes})


def found(folder: Path, **changes: Any) -> Founded:
    """A federation in `folder`."""
    given = {"study": small_study(), "address": ADDRESS, "name": "Coordinating Hospital", "app": APP, **changes}
    study, address = given.pop("study"), given.pop("address")
    return provision(study, folder, address, **given)


def kit_for(fed: Path, home: Path, site: str = "north", **options: Any) -> Enrolled:
    """A hospital's request and the kit that answers it; `options` are `enrol`'s."""
    return enrol(fed, initialise(home, site, home / "courier"), **options)


def renewed(fed: Path, home: Path, site: str = "north", **options: Any) -> Enrolled:
    """A hospital's new keys, and the kit that answers their request."""
    return enrol(fed, initialise(home, site, home / "courier", new_keys=True), **{"renew": True, **options})


def told(fed: Path) -> str:
    """What the coordinator reads out on the telephone."""
    return spoken((fed / "coordinator.pub").read_text().strip())


def install(fed: Path, home: Path, kit: Path, **options: Any) -> Installed:
    """Check and install a kit, as `fedloupe-site join` does."""
    checked = check_kit(home, home / "courier", kit, heard=told(fed), **{"now": utc_now(), **options})
    return join(home, home / "courier", checked, by="Dr Ito")


def resign(kit: Path, key: Path, target: Path, **changes: Any) -> Path:
    """A kit with other content, signed as it should be: by the coordinator's own key, or another's."""
    content = {**json.loads(kit.read_text())["content"], **changes}
    signer = Signer.load(key)
    forged = Kit.model_validate({**content, "coordinator_key": signer.public})
    target.write_bytes(document_bytes(sign_kit(forged, signer)))
    return target


def digests(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def build_once(monkeypatch: Any) -> None:
    """Let `flwr build` run once a session: it takes seconds, and always gives the same bytes."""
    real = Flower.build

    def build(self: Flower, app: Path) -> Path:
        source = (app / "pyproject.toml").read_bytes()
        if source not in _BUILT:
            _BUILT[source] = real(self, app).read_bytes()
        path = app / "fedloupe.built.fab"
        path.write_bytes(_BUILT[source])
        return path

    monkeypatch.setattr(Flower, "build", build)


_BUILT: dict[bytes, bytes] = {}
