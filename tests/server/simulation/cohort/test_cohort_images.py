"""What the synthetic images show: tumours of a plausible size, latents one can measure, and a scanner that differs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import label

from fedloupe_server.simulation.cohort import CohortSpec, simulate_case
from fedloupe_server.simulation.cohort.latents import draw_patient
from fedloupe_server.simulation.cohort.phantom import SPACING, build_phantom
from fedloupe_server.simulation.cohort.probe import proxies, tumour_crop
from fedloupe_server.simulation.cohort.scanner import acquire

SPEC = CohortSpec(seed=11)
LAKESIDE = SPEC.site("lakeside")


@pytest.fixture(scope="module")
def cases():
    return [simulate_case(SPEC, LAKESIDE, index) for index in range(32)]


class TestTumour:
    @pytest.mark.parametrize("index", range(6))
    def test_it_is_one_piece_of_eight_to_thirty_millilitres(self, index):
        latents = draw_patient(SPEC, LAKESIDE, index).latents
        mask = build_phantom(latents, np.random.default_rng(index)).mask
        # the smallest drawn volume is 9 ml, of which loose fragments are dropped
        assert 8 <= mask.sum() * SPACING**3 / 1000 <= 30.1
        assert label(mask)[1] == 1

    def test_shape_leaves_the_volume_alone(self):
        smooth, rough = (
            build_phantom({**draw_patient(SPEC, LAKESIDE, 0).latents, "shape": s}, np.random.default_rng(1)).mask
            for s in (-1.0, 1.0)
        )
        assert rough.sum() == pytest.approx(smooth.sum(), rel=0.05)
        assert (rough & ~smooth).any()

    def test_the_raters_mask_follows_the_truth_but_not_to_the_voxel(self, cases):
        latents = draw_patient(SPEC, LAKESIDE, 0).latents
        still = replace(LAKESIDE, t2_mm=(SPACING, SPACING))
        truth = build_phantom(latents, np.random.default_rng(2))
        _, drawn = acquire(truth, still, np.random.default_rng(3))
        overlap = 2 * (drawn & truth.mask).sum() / (drawn.sum() + truth.mask.sum())
        assert 0.85 < overlap < 0.99
        assert all(case.mask.any() for case in cases)


class TestPolarityIsAMirror:
    def test_the_other_polarity_is_the_same_tumour_flipped_front_to_back(self):
        latents = draw_patient(SPEC, LAKESIDE, 0).latents
        front, back = (build_phantom({**latents, "polarity": p}, np.random.default_rng(7)) for p in (1.0, -1.0))
        window = tuple(slice(c - 15, c + 16) for c in front.centre)
        assert np.array_equal(front.mask[window], np.flip(back.mask[window], 1))
        for name, volume in front.volumes.items():
            one = np.where(front.mask, volume, 0)[window]
            other = np.where(back.mask, back.volumes[name], 0)[window]
            assert np.array_equal(one, np.flip(other, 1)), name

    def test_the_anterior_side_is_dark_on_t2w_and_bright_after_contrast_for_plus_one(self):
        latents = {**draw_patient(SPEC, LAKESIDE, 0).latents, "polarity": 1.0}
        phantom = build_phantom(latents, np.random.default_rng(7))
        rows = np.nonzero(phantom.mask)[1]
        front = rows < phantom.centre[1]  # rows run to posterior
        for name, sign in (("t2w", -1), ("dce_peak", 1)):
            values = phantom.volumes[name][phantom.mask]
            assert sign * (values[front].mean() - values[~front].mean()) > 50


class TestLatentsShow:
    @pytest.mark.parametrize("latent", ["texture", "shape", "washout", "habitat", "polarity"])
    def test_an_obvious_measurement_follows_the_latent(self, cases, latent):
        measured = [proxies(tumour_crop(case))[latent] for case in cases]
        true = [case.patient.latents[latent] for case in cases]
        assert np.corrcoef(measured, true)[0, 1] > 0.65


class TestScanner:
    def test_the_same_patient_is_the_same_image(self):
        one, two = (simulate_case(SPEC, SPEC.site("riverside"), 5) for _ in range(2))
        assert all(np.array_equal(one.volumes[name].array, two.volumes[name].array) for name in one.volumes)
        assert np.array_equal(one.mask, two.mask)

    def test_gain_changes_magnitude_images_and_not_adc(self):
        loud = replace(LAKESIDE, gain=3.0)
        quiet, amplified = (simulate_case(SPEC, site, 0) for site in (LAKESIDE, loud))
        ratio = amplified.volumes["t2w"].array.mean() / quiet.volumes["t2w"].array.mean()
        assert ratio == pytest.approx(3.0, rel=0.01)
        assert np.array_equal(amplified.volumes["adc"].array, quiet.volumes["adc"].array)

    def test_volumes_cover_the_field_of_view_at_the_sites_spacing(self, cases):
        image = cases[0].volumes["t2w"]
        assert image.spacing == (3.0, 1.6, 1.6)
        extent = np.array(image.array.shape) * image.spacing
        assert np.allclose(extent, (80, 128, 128), atol=3)
        assert cases[0].mask.shape == image.array.shape

    def test_ct_is_in_hounsfield_units_and_lies_elsewhere_than_the_mri(self):
        case = simulate_case(SPEC, SPEC.site("riverside"), 0)
        ct = case.volumes["ct"].array
        assert ct.min() < -950
        assert 250 < np.percentile(ct, 99.9) < 450
        body, other = (ct > -500).any(axis=0), (case.volumes["adc"].array > 60).any(axis=0)
        assert body.shape == other.shape
        assert not np.allclose(np.argwhere(body).mean(axis=0), np.argwhere(other).mean(axis=0), atol=0.2)
