"""Two synthetic hospitals train a drawing model together; a third study of theirs then uses it where a mask lacks."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml

from fedloupe.drawing import read_drawing
from fedloupe.messages import HelloReply, HelloRequest, decode, encode
from fedloupe.study import Study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest, load_store
from fedloupe_client.site.site import Site
from fedloupe_server.federation import Exchange, draw_study
from fedloupe_server.federation.exchange import Arrival, Outbox
from fedloupe_server.hub.deployment import run_deployed
from fedloupe_server.simulation.showing import drawing_table
from sealing import hearing

SHAPE, CASES = (16, 16, 16), 16
SITES = ("north", "south")


def study(**changes: Any) -> Study:
    return parse_study(
        {
            "study": "balls",
            "title": "Synthetic balls",
            "synthetic": True,
            "endpoint": {"name": "response", "column": "response", "positive": ["yes"], "negative": ["no"]},
            "sequences": [{"name": "t2w"}],
            "aggregation": "plain",
            "sites": [{"name": name, "role": "train"} for name in SITES],
            "imaging": {"spacing_mm": 2.0, "crop_mm": 16, "bias_correction": "none"},
            "radiomics": {"source": "none"},
            "split": {"test": 0.4, "tune": 0.1},
            **changes,
        }
    )


def write(path: Path, array: np.ndarray) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0, 2.0))
    sitk.WriteImage(image, str(path))


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Noise with a bright ball, sixteen cases a site."""
    folder, rng = tmp_path_factory.mktemp("balls"), np.random.default_rng(5)
    axes = np.stack(np.meshgrid(*[np.arange(SHAPE[0])] * 3, indexing="ij"), axis=-1)
    made = {}
    for site in SITES:
        home = made[site] = folder / site
        home.mkdir()
        for number in range(CASES):
            mask = ((axes - rng.uniform(5, 10, 3)) ** 2).sum(-1) < rng.uniform(3, 4) ** 2
            write(home / f"C{number}_t2w.nii.gz", (rng.standard_normal(SHAPE) + 3 * mask).astype(np.float32))
            write(home / f"C{number}_mask.nii.gz", mask.astype(np.uint8))
        rows = [f"C{n},{'yes' if n % 2 else 'no'}" for n in range(CASES)]
        (home / "clinical.csv").write_text("\n".join(["case,response", *rows]) + "\n")
        (home / "policy.yaml").write_text("{minimum_cohort: 3, minimum_cell: 2}")
        (home / "secret.key").touch(mode=0o600)
        (home / "secret.key").write_bytes(bytes(32))  # pseudonyms, and so splits, that are the same in every run
        configure(home, site)
    return made


def configure(home: Path, site: str, **more: str) -> None:
    source = {
        "format": "nifti",
        "root": ".",
        "clinical": {"file": "clinical.csv"},
        "files": {"t2w": "{case}_t2w.nii.gz"},
        "mask": "{case}_mask.nii.gz",
        **more,
    }
    (home / "site.yaml").write_text(yaml.safe_dump({"site": site, "source": source}))


def exchange_with(homes: Mapping[str, Path], run_dir: Path) -> Exchange:
    """The hospitals of these homes, in this process."""
    sites = {name: hearing(Site(home), run_dir) for name, home in homes.items()}

    def exchange(outbox: Outbox, timeout_s: float) -> Iterator[Arrival | None]:
        for name, blob in outbox:
            yield Arrival(name, sites[name](blob))

    return exchange


def start_site(home: Path, socket: Path) -> list[str]:
    return [sys.executable, "-m", "fedloupe_client.cli", "start", str(home), "--socket", str(socket)]


class TestTogether:
    def test_from_masks_at_two_hospitals_to_a_mask_that_neither_drew(self, homes, tmp_path):
        drawing = study(
            segmentation={"field_mm": 32, "channels": [8, 16, 32]},
            training={"rounds": 6, "local_epochs": 5, "batch_size": 4, "learning_rate": 0.01},
        )
        for name, home in homes.items():
            ingest(load_site(home), drawing, home)
            approve(home, drawing, by="test")
        card = draw_study(drawing, exchange_with(homes, tmp_path / "run"), tmp_path / "run")
        assert [s.site for s in card.sites] == list(SITES)
        assert all(s.mean > 0.7 and s.own_mean is not None for s in card.sites)
        assert "SYNTHETIC" in str(drawing_table(card).title)

        home = homes["north"]
        (home / "C3_mask.nii.gz").unlink()
        configure(home, "north", drawing=str(tmp_path / "run" / "drawing"))
        predicting = study(study="prediction")
        ingest(load_site(home), predicting, home)
        approve(home, predicting, by="test")
        assert list(load_store(home).drawn.values()) == [card.model]
        request = HelloRequest(version=card.version, fingerprint=predicting.fingerprint, run="next", site="north")
        reply = decode(Site(home).answer(encode(request)))
        assert isinstance(reply, HelloReply), reply
        assert (reply.drawn, reply.drawn_by) == (1, card.model)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in a site's own process: sums in another order would leave their rounding in biases that a norm cancels."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.deployed
@pytest.mark.usefixtures("one_thread")
class TestThroughRealProcesses:
    def test_the_model_is_the_same(self, homes, tmp_path):
        drawing = study(
            study="deployed",
            segmentation={"field_mm": 32, "channels": [4, 8]},
            training={"rounds": 2, "local_epochs": 1, "batch_size": 4, "learning_rate": 0.01},
            quorum={"minimum": 2, "timeout_s": 120, "retry_after_s": 5},
        )
        for home in homes.values():
            ingest(load_site(home), drawing, home)
            approve(home, drawing, by="test")
        card = draw_study(drawing, exchange_with(homes, tmp_path / "here"), tmp_path / "here")
        file = tmp_path / "study.json"
        file.write_text(drawing.canonical)
        run_deployed(file, homes, tmp_path / "there", tmp_path / "work", site_command=start_site, timeout_s=400)
        here, there = (read_drawing(tmp_path / name / "drawing") for name in ("here", "there"))
        np.testing.assert_allclose(here.weights, there.weights, rtol=0, atol=1e-6)
        assert [(s.site, s.patients, round(s.mean, 6)) for s in there.card.sites] == [
            (s.site, s.patients, round(s.mean, 6)) for s in card.sites
        ]
