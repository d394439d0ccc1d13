"""A case without a mask is drawn by the site's model and marked; a site's own mask is never touched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from fedloupe import __version__
from fedloupe.drawing import DrawingCard, DrawingUnreadable, model_bytes, read_drawing
from fedloupe.models import dice, drawing_loss, flatten, unet
from fedloupe.study import Study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.imaging.drawing import draw
from fedloupe_client.ingest import IngestReport, ingest, load_store
from fedloupe_client.ingest.problems import DrawingUnsuited

SHAPE = (16, 16, 16)
CASES = 5


def study(**changes: Any) -> Study:
    content: dict[str, Any] = {
        "study": "tiny",
        "title": "Synthetic balls",
        "synthetic": True,
        "endpoint": {"name": "response", "column": "trg", "positive": ["good"], "negative": ["poor"]},
        "sequences": [{"name": "t2w"}],
        "aggregation": "plain",
        "sites": [{"name": "north", "role": "train"}],
        "imaging": {"spacing_mm": 2.0, "crop_mm": 16, "bias_correction": "none"},
        "quorum": {"minimum": 1},
        "radiomics": {"source": "none"},
    }
    return parse_study({**content, **changes})


DRAWING = {"field_mm": 32, "channels": [8, 16, 32]}


def ball(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    axes = np.stack(np.meshgrid(*[np.arange(SHAPE[0])] * 3, indexing="ij"), axis=-1)
    mask = ((axes - rng.uniform(5, 10, 3)) ** 2).sum(-1) < rng.uniform(3, 4) ** 2
    return (100 + 10 * rng.standard_normal(SHAPE) + 40 * mask).astype(np.float32), mask.astype(np.uint8)


def write(path: Path, array: np.ndarray) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0, 2.0))
    image.SetOrigin((-5.0, 7.0, 11.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net that has learned bright balls, as a coordinator hands it out."""
    made = study(segmentation=DRAWING)
    rng = np.random.default_rng(7)
    pairs = [ball(rng) for _ in range(16)]
    images = torch.from_numpy(np.stack([(i - i.mean()) / i.std() for i, _ in pairs])[:, None]).clip(-4, 4)
    masks = torch.from_numpy(np.stack([m for _, m in pairs])[:, None].astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = unet(made.segmentation, made.sequences)
        optimiser = torch.optim.AdamW(network.parameters(), lr=0.01)
        for step in range(100):
            part = slice(step % 4 * 4, step % 4 * 4 + 4)
            optimiser.zero_grad()
            drawing_loss(network(images[part]), masks[part]).backward()
            optimiser.step()
    return save(tmp_path_factory.mktemp("model"), made, flatten(network))


def save(folder: Path, made: Study, weights: np.ndarray) -> Path:
    content = model_bytes(weights)
    card = DrawingCard(
        study=made.study,
        title=made.title,
        synthetic=True,
        fingerprint=made.fingerprint,
        version=__version__,
        model=hashlib.sha256(content).hexdigest(),
        sequences=made.sequences,
        imaging=made.imaging,
        segmentation=made.segmentation,
        sites=(),
    )
    (folder / "drawing.json").write_text(card.model_dump_json())
    (folder / "model.safetensors").write_bytes(content)
    return folder


class Hospital:
    """Five balls; the own masks of the first two are there, those of the others are kept aside as the truth."""

    def __init__(self, home: Path, model: Path | None) -> None:
        self.home, rng = home, np.random.default_rng(3)
        self.truth = {}
        for number in range(CASES):
            image, mask = ball(rng)
            write(home / f"data/P-{number}_t2w.nii.gz", image)
            if number < 2:
                write(home / f"data/P-{number}_mask.nii.gz", mask)
            self.truth[f"P-{number}"] = mask
        rows = [f"P-{n},{'good' if n % 2 else 'poor'}" for n in range(CASES)]
        (home / "clinical.csv").write_text("\n".join(["case,trg", *rows]) + "\n")
        self.configure(model)

    def configure(self, model: Path | None) -> None:
        source = {
            "format": "nifti",
            "root": ".",
            "clinical": {"file": "clinical.csv"},
            "files": {"t2w": "data/{case}_t2w.nii.gz"},
            "mask": "data/{case}_mask.nii.gz",
            **({} if model is None else {"drawing": str(model)}),
        }
        (self.home / "site.yaml").write_text(json.dumps({"site": "north", "source": source}))

    def ingest(self, made: Study | None = None) -> IngestReport:
        return ingest(load_site(self.home), made or study(), self.home)

    def names(self) -> dict[str, str]:
        """Pseudonym by local id."""
        lines = (self.home / "ingest-local.csv").read_text().splitlines()
        return {line.split(",")[0]: line.split(",")[2] for line in lines[1:]}


@pytest.fixture
def make_hospital(tmp_path: Path) -> Callable[[Path | None], Hospital]:
    return lambda model: Hospital(tmp_path, model)


def digest(model: Path) -> str:
    return read_drawing(model).card.model


class TestDrawing:
    def test_cases_without_a_mask_are_drawn_and_marked_and_the_others_keep_their_own(self, make_hospital, model):
        hospital = make_hospital(model)
        report = hospital.ingest()
        store, names = load_store(hospital.home), hospital.names()
        records = {record.case: record for record in store.ready}
        marks = [(records[names[f"P-{n}"]].mask, records[names[f"P-{n}"]].drawn_by) for n in range(CASES)]
        assert marks == [("own", None)] * 2 + [("drawn", digest(model))] * 3
        for number in range(CASES):
            truth = hospital.truth[f"P-{number}"]
            found = sitk.GetArrayFromImage(store.mask(names[f"P-{number}"]))
            assert (found == truth).all() if number < 2 else dice(found, truth) > 0.8
        assert report.drawn == {digest(model): 3}
        assert any(f"3 of 5 ready cases were drawn by model {digest(model)}" in note for note in report.notes)
        assert (hospital.home / "ingest-local.csv").read_text().count(",drawn") == 3

    def test_without_a_model_they_are_left_out_as_ever(self, make_hospital):
        hospital = make_hospital(None)
        assert hospital.ingest().codes == {"FL-230": 3}

    def test_a_mask_that_comes_later_wins(self, make_hospital, model):
        hospital = make_hospital(model)
        hospital.ingest()
        write(hospital.home / "data/P-3_mask.nii.gz", hospital.truth["P-3"])
        assert hospital.ingest().drawn == {digest(model): 2}
        store = load_store(hospital.home)
        assert (sitk.GetArrayFromImage(store.mask(hospital.names()["P-3"])) == hospital.truth["P-3"]).all()

    def test_a_case_with_a_mask_that_is_wrong_is_not_drawn(self, make_hospital, model):
        hospital = make_hospital(model)
        write(hospital.home / "data/P-3_mask.nii.gz", np.zeros(SHAPE, np.uint8))
        assert hospital.ingest().codes == {"FL-231": 1}

    def test_the_same_images_give_the_same_store_however_often(self, make_hospital, model):
        hospital = make_hospital(model)
        hospital.ingest()
        once = {p.name + p.parent.name: p.read_bytes() for p in (hospital.home / "store").rglob("*") if p.is_file()}
        (hospital.home / "ingest").rename(hospital.home / "aside")
        hospital.ingest()
        assert once == {
            p.name + p.parent.name: p.read_bytes() for p in (hospital.home / "store").rglob("*") if p.is_file()
        }

    def test_a_model_that_comes_later_leaves_the_finished_cases_as_they_are(self, make_hospital, model):
        hospital = make_hospital(None)
        hospital.ingest()
        finished = {path.name for path in (hospital.home / "ingest/cases").iterdir()}
        hospital.configure(model)
        hospital.ingest()
        assert len(finished) == 2
        assert finished < {path.name for path in (hospital.home / "ingest/cases").iterdir()}

    def test_another_model_draws_anew(self, make_hospital, model, tmp_path):
        hospital = make_hospital(model)
        hospital.ingest()
        other = tmp_path / "other"
        other.mkdir()
        weights = read_drawing(model).weights.copy()
        weights[-1] += 1e-3
        save(other, study(segmentation=DRAWING), weights)
        hospital.configure(other)
        assert hospital.ingest().drawn == {digest(other): 3}

    def test_a_model_that_draws_nothing_is_a_finding_of_its_own(self, make_hospital, tmp_path):
        made = study(segmentation=DRAWING)
        folder = tmp_path / "empty"
        folder.mkdir()
        weights = 0 * flatten(unet(made.segmentation, made.sequences))
        weights[-1] = -5.0  # the bias of the last layer
        hospital = make_hospital(save(folder, made, weights))
        assert hospital.ingest().codes == {"FL-239": 3}

    def test_a_drawing_study_trains_on_own_masks_alone(self, make_hospital, model):
        hospital = make_hospital(model)
        report = hospital.ingest(study(segmentation=DRAWING))
        assert (report.codes, report.drawn) == ({"FL-230": 3}, {})


class TestMask:
    def test_is_one_piece_the_largest(self, model):
        rng = np.random.default_rng(11)
        axes = np.stack(np.meshgrid(*[np.arange(SHAPE[0])] * 3, indexing="ij"), axis=-1)
        large = ((axes - 4.5) ** 2).sum(-1) < 4**2
        small = ((axes - 11.5) ** 2).sum(-1) < 3**2
        image = sitk.GetImageFromArray(
            (100 + 10 * rng.standard_normal(SHAPE) + 40 * (large | small)).astype(np.float32)
        )
        image.SetSpacing((2.0, 2.0, 2.0))
        found = sitk.GetArrayFromImage(draw(read_drawing(model), {"t2w": image}, "c"))
        assert dice(found, large) > 0.7
        assert not (found[small] > 0).any()

    def test_never_reaches_beyond_the_field(self, tmp_path):
        made = study(segmentation={"field_mm": 16, "channels": [2, 4]})
        weights = 0 * flatten(unet(made.segmentation, made.sequences))
        weights[-1] = 5.0  # every voxel is tumour
        image = sitk.GetImageFromArray(np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32))
        image.SetSpacing((2.0, 2.0, 2.0))
        found = sitk.GetArrayFromImage(draw(read_drawing(save(tmp_path, made, weights)), {"t2w": image}, "c"))
        assert found.sum() == 8**3 and found[4:12, 4:12, 4:12].all()


class TestSuiting:
    def test_a_model_of_another_sequence_is_refused_before_anything_is_written(self, make_hospital, model):
        hospital = make_hospital(model)
        physical = study(sequences=[{"name": "t2w", "intensity": "physical"}])
        with pytest.raises(DrawingUnsuited, match="t2w"):
            hospital.ingest(physical)
        assert not (hospital.home / "store").exists()

    def test_weights_that_are_not_the_cards_are_refused(self, make_hospital, model, tmp_path):
        folder = tmp_path / "mixed"
        folder.mkdir()
        (folder / "drawing.json").write_bytes((model / "drawing.json").read_bytes())
        (folder / "model.safetensors").write_bytes(model_bytes(np.zeros(3)))
        with pytest.raises(DrawingUnreadable, match="not the one"):
            make_hospital(folder).ingest()

    def test_a_folder_without_a_model_is_refused(self, make_hospital, tmp_path):
        with pytest.raises(DrawingUnreadable):
            make_hospital(tmp_path / "nowhere").ingest()


class TestDicom:
    """The model takes every voxel for tumour; which cases it is asked to draw is what matters."""

    @pytest.fixture
    def everything(self, tmp_path: Path) -> Path:
        made = study(segmentation={"field_mm": 64, "channels": [2, 4]})
        weights = 0 * flatten(unet(made.segmentation, made.sequences))
        weights[-1] = 5.0
        folder = tmp_path / "everything"
        folder.mkdir()
        return save(folder, made, weights)

    def test_a_case_without_a_structure_set_is_drawn_and_one_whose_names_do_not_fit_is_not(
        self, dicom_site, everything, tmp_path
    ):
        dicom_site.table("P-0001,good,61,T2", "P-0002,poor,55,T3", "P-0003,poor,55,T3")
        for patient in ("P-0001", "P-0002", "P-0003"):
            dicom_site.series(patient)
        dicom_site.structures("P-0002")
        dicom_site.structures("P-0003", names=("Bladder",))
        home = tmp_path / "home"
        home.mkdir()
        config = dicom_site.config(drawing=str(everything))
        report = ingest(config, study(), home)
        found = [(record.status, record.mask, record.code) for record in report.records]
        assert sorted(found, key=str) == [
            ("broken", None, "FL-230"),
            ("ready", "drawn", None),
            ("ready", "own", None),
        ]
        case = next(record.case for record in report.records if record.mask == "drawn")
        assert sitk.GetArrayFromImage(load_store(home).mask(case)).all()
