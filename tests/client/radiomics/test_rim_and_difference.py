"""The rim is a region like the tumour, a difference is an image like a sequence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from fedloupe.features import BinNumber, DiscretisationPlan, FeatureSettings, VolumeBinNumber, VolumePlan, feature_table
from fedloupe_client.radiomics import extract_case

ORIGINALS = ("spatial", "local", "ivh")
PLAIN = FeatureSettings(
    log_sigmas_mm=(2.0,), wavelet=None, laws=("L5L5E5",), simoncelli_levels=(2,), original_families=ORIGINALS
)
KINDS = {"a": "zscore", "b": "zscore"}
SIZE = 20


def _image(seed: int) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(SIZE,) * 3), 0.7).astype(np.float32)


def _tumour() -> np.ndarray:
    z, y, x = np.mgrid[:SIZE, :SIZE, :SIZE] - np.array([9, 10, 11])[:, None, None, None]
    return z**2 + y**2 + x**2 < 20


def _values(images: dict, mask: np.ndarray, settings: FeatureSettings, kinds: dict = KINDS) -> dict[str, float]:
    row = extract_case(images, mask, 2.0, settings, kinds)
    assert row.reasons == {}
    return dict(zip(feature_table(settings, images).names, row.values.tolist(), strict=True))


class TestRim:
    @pytest.mark.parametrize("width", [2.0, 5.0])
    def test_its_features_are_those_of_its_voxels_taken_as_a_tumour(self, width):
        mask = _tumour()
        places = np.argwhere(np.ones_like(mask)) * 2.0
        to_tumour = np.sqrt(((places[:, None, :] - np.argwhere(mask)[None] * 2.0) ** 2).sum(axis=2)).min(axis=1)
        shell = (to_tumour.reshape(mask.shape) <= width) & ~mask
        assert 50 < shell.sum() < mask.size / 2
        both = _values({"a": _image(0)}, mask, PLAIN.model_copy(update={"rim_mm": width}))
        alone = _values({"a": _image(0)}, shell, PLAIN)
        rim = {name: value for name, value in both.items() if "|rim_" in name}
        assert len(rim) == len(alone) - 21
        for name, value in rim.items():
            assert value == pytest.approx(alone[name.replace(f"|rim_{width:g}mm", "")], rel=1e-6, abs=1e-9), name

    def test_the_tumours_own_features_do_not_change(self):
        mask = _tumour()
        both = _values({"a": _image(0)}, mask, PLAIN.model_copy(update={"rim_mm": 4.0}))
        for name, value in _values({"a": _image(0)}, mask, PLAIN).items():
            assert value == pytest.approx(both[name], rel=1e-6, abs=1e-9), name

    def test_it_ends_where_the_image_ends(self):
        mask = np.zeros((SIZE,) * 3, dtype=bool)
        mask[:3, 8:12, 8:12] = True
        both = _values({"a": _image(0)}, mask, PLAIN.model_copy(update={"rim_mm": 2.0}))
        energy = both["a|rim_2mm|original|firstorder|energy"]
        square = both["a|rim_2mm|original|firstorder|root_mean_square"] ** 2
        # one voxel on each of five faces: 3 x 4 on four sides, 4 x 4 at the end
        assert round(energy / square) == 4 * 12 + 16


class TestDifference:
    DELTA = PLAIN.model_copy(update={"delta": (("b", "a"),)})

    def test_its_features_are_those_of_the_subtracted_image(self):
        images, mask = {"a": _image(0), "b": _image(1)}, _tumour()
        found = _values(images, mask, self.DELTA)
        original = PLAIN.model_copy(update={"log_sigmas_mm": (), "laws": (), "simoncelli_levels": ()})
        expected = _values({"a": images["b"] - images["a"]}, mask, original)
        names = [name for name in found if name.startswith("b:a|")]
        assert len(names) == len(expected) - 21 == 148
        for name in names:
            assert found[name] == pytest.approx(expected[name.replace("b:a|", "a|")], rel=1e-5, abs=1e-7), name

    def test_it_is_binned_like_a_response_whatever_the_kind_of_the_sequences(self):
        plan = DiscretisationPlan(response=BinNumber(bins=8))
        settings = self.DELTA.model_copy(
            update={"discretisation": plan, "volume_histogram": VolumePlan(zscore=VolumeBinNumber(bins=50))}
        )
        images = {"a": 900 + 100 * _image(0), "b": 900 + 100 * _image(1)}  # negative differences, as ADC never is
        found = _values(images, _tumour(), settings, {"a": "physical", "b": "physical"})
        assert found["b:a|original|histogram|maximum"] == 8
        assert found["b:a|original|histogram|minimum"] == 1
        assert 1 <= found["b:a|original|ivh|intensity_10"] <= 50

    def test_equal_phases_differ_by_a_constant(self):
        row = extract_case({"a": _image(0), "b": _image(0)}, _tumour(), 2.0, self.DELTA, KINDS)
        assert row.reasons["b:a|original|glcm"] == "constant intensity"
        values = dict(zip(feature_table(self.DELTA, ["a", "b"]).names, row.values, strict=True))
        assert values["b:a|original|firstorder|mean"] == 0
