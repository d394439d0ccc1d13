"""A released model: the same after a journey through a file, and its three answers by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.release import Release, ReleaseDamaged, ReleaseUnreadable


def made() -> Release:
    return Release(
        fingerprint="0" * 64,
        run="demo",
        weights=np.arange(5, dtype=np.float32),
        line=np.array([0.5, 2.0]),
        threshold=0.4,
        admitted=0.7,
        centre=np.array([1.0, 0.0]),
        precision=np.diag([1.0, 4.0]),
        limit=2.5,
        mean=np.zeros(3),
        scale=np.ones(3),
        projection=np.ones((3, 1), np.float32),
        patients=120,
    )


class TestFile:
    def test_a_release_comes_back_as_it_was(self, tmp_path):
        path = tmp_path / "one.safetensors"
        path.write_bytes(made().to_bytes())
        again = Release.read(path)
        for name, value in vars(made()).items():
            np.testing.assert_array_equal(getattr(again, name), value)
        assert again.to_bytes() == made().to_bytes()

    @pytest.mark.parametrize("content", [b"", b"{}", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
    def test_what_is_no_release_is_refused_by_name(self, tmp_path, content):
        path = tmp_path / "one.safetensors"
        path.write_bytes(content)
        with pytest.raises(ReleaseDamaged, match=r"one\.safetensors"):
            Release.read(path)

    def test_a_file_that_is_not_there_is_not_called_damaged(self, tmp_path):
        with pytest.raises(ReleaseUnreadable, match=r"one\.safetensors"):
            Release.read(tmp_path / "one.safetensors")


class TestAnswers:
    def test_the_probability_is_that_of_the_line(self):
        np.testing.assert_allclose(made().probability(np.array([-0.25, 1.0])), [0.5, 1 / (1 + np.exp(-2.5))])

    def test_the_set_holds_each_outcome_that_is_not_too_unlikely(self):
        found = made().allowed(np.array([0.1, 0.5, 0.75]))
        assert found.tolist() == [[True, False], [True, True], [False, True]]

    def test_the_distance_is_a_dimension(self):
        """(3, 2): offsets 2 and 2, weighted 1 and 4: sqrt((4 + 16) / 2)."""
        np.testing.assert_allclose(made().distance(np.array([[3.0, 2.0], [1.0, 0.0]])), [np.sqrt(10), 0])
