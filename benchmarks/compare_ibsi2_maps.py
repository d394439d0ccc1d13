"""The filters against IBSI-2's reference response maps, voxel by voxel.

    python benchmarks/compare_ibsi2_maps.py DATA_SETS REFERENCE

DATA_SETS and REFERENCE are clones of IBSI's `theibsi/data_sets` (phantoms, CC BY 4.0) and
`theibsi/ibsi_2_reference_data`. IBSI's rule: no voxel is off by more than 1 % of the reference map's range. The maps
prescribe boundaries that the product does not offer; images are padded here so that its own, reflection, is not seen.

Simoncelli is compared twice: on the reference's own frequency grid, which spreads N samples from -pi to pi, both
ends included, and at the frequencies that a transform of N voxels has (2 pi k / N), which the product uses.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np

from fedloupe_client.radiomics.filters import laplacian_of_gaussian, wavelet_bands
from fedloupe_client.radiomics.kernel import Floats
from fedloupe_client.radiomics.laws import laws_energies, strongest
from fedloupe_client.radiomics.separable import Box
from fedloupe_client.radiomics.simoncelli import ring

BANDS = ("LLL", "LLH", "LHL", "LHH", "HLL", "HLH", "HHL", "HHH")
SIZE = 64
WHOLE: Box = (slice(0, SIZE), slice(0, SIZE), slice(0, SIZE))


def read(path: Path) -> Floats:
    """A map or phantom (z, y, x)."""
    return np.asarray(nibabel.load(path).dataobj, dtype=np.float64).transpose(2, 1, 0)


def padded(image: Floats, mode: str, by: int = 30) -> tuple[Floats, Box]:
    """The image with its prescribed surroundings, and where it lies in them."""
    return np.pad(image, by, mode=mode), (slice(by, by + SIZE),) * 3  # type: ignore[call-overload]


def by_fourier(image: Floats, axis: Floats, level: int) -> Floats:
    """A Simoncelli map of a periodic image, with the frequencies given along one axis."""
    frequency = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    response: Floats = np.fft.ifftn(np.fft.fftn(image) * ring(frequency, level)).real
    return response


def maps(phantoms: Path) -> Iterator[tuple[str, str, Floats]]:
    """IBSI's number, what it is, and our map."""
    impulse, board, sphere = (
        read(phantoms / name / "image" / f"{name}.nii.gz") for name in ("impulse", "checkerboard", "sphere")
    )
    dark, place = padded(impulse, "constant")
    yield "2_a", "LoG 3 mm", laplacian_of_gaussian(dark, place, 1.5, 4)
    yield "2_b", "LoG 5 mm", laplacian_of_gaussian(board, WHOLE, 2.5, 4)
    yield "2_c", "LoG 5 mm in the slice", laplacian_of_gaussian(board, WHOLE, 2.5, 4, planar=True)
    for number, image, box, name in (
        ("3_a", dark, place, "E5L5S5"),
        ("3_b", board, WHOLE, "E3W5R5"),
        ("3_c", board, WHOLE, "L5S5"),
    ):
        kernels = tuple(name[i : i + 2] for i in range(0, len(name), 2))
        yield f"{number}_2", f"Laws {name}, rotation-invariant", strongest(image, box, kernels)
        yield f"{number}_3", f"Laws {name}, energy", next(laws_energies(image, box, [name], 7))
    bands = dict(zip(BANDS, wavelet_bands(dark, place, "db2", mirrored=False), strict=True))
    yield "5_a_1", "wavelet db2 LHL", bands["LHL"]
    bands = dict(zip(BANDS, wavelet_bands(*padded(sphere, "wrap"), "coif1", mirrored=False), strict=True))
    yield "6_a_1", "wavelet coif1 HHL", bands["HHL"]
    reference = np.fft.ifftshift(np.linspace(-np.pi, np.pi, SIZE))
    reference[0] = 0  # the sample nearest zero stands for it
    for level in (1, 2, 3):
        yield f"8_a_{level}", f"Simoncelli {level}, reference's grid", by_fourier(board, reference, level)
    for level in (1, 2, 3):
        own = 2 * np.pi * np.fft.fftfreq(SIZE)
        yield f"8_a_{level}", f"Simoncelli {level}, true frequencies", by_fourier(board, own, level)


def main(data_sets: Path, reference: Path) -> None:
    """Print one line a map."""
    print(f"{'map':6} {'filter':36} {'largest difference':>18} {'voxels off':>10}")
    for number, what, found in maps(data_sets / "ibsi_2_digital_phantom" / "nifti"):
        expected = read(reference / "reference_response_maps" / f"{number}-ValidCRM.nii")
        share = np.abs(found - expected) / np.ptp(expected)
        print(f"{number:6} {what:36} {share.max():17.4%} {int((share > 0.01).sum()):11}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
