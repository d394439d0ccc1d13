"""The filters against IBSI-2's reference response maps, voxel by voxel.

    python benchmarks/compare_ibsi2_maps.py DATA_SETS REFERENCE

DATA_SETS and REFERENCE are clones of IBSI's `theibsi/data_sets` (phantoms, CC BY 4.0) and
`theibsi/ibsi_2_reference_data`. IBSI's rule: no voxel is off by more than 1 % of the reference map's range. The maps
prescribe boundaries that the product does not offer; images are padded here so that its own, reflection, is not seen.

Simoncelli is compared with `simoncelli_frequencies: ibsi`, and, to show what the choice of frequencies alone does, at
the exact ones without the product's reflection: the board fills its image, and no padding would keep the edges out.
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
from fedloupe_client.radiomics.simoncelli import ring, simoncelli_maps

BANDS = ("LLL", "LLH", "LHL", "LHH", "HLL", "HLH", "HHL", "HHH")
SIZE = 64
WHOLE: Box = (slice(0, SIZE), slice(0, SIZE), slice(0, SIZE))


def read(path: Path) -> Floats:
    """A map or phantom (z, y, x)."""
    return np.asarray(nibabel.load(path).dataobj, dtype=np.float64).transpose(2, 1, 0)


def padded(image: Floats, mode: str, by: int = 30) -> tuple[Floats, Box]:
    """The image with its prescribed surroundings, and where it lies in them."""
    return np.pad(image, by, mode=mode), (slice(by, by + SIZE),) * 3  # type: ignore[call-overload]


def repeating(image: Floats, level: int) -> Floats:
    """A Simoncelli map at true frequencies of an image that repeats itself, as the reference's does."""
    axes = np.meshgrid(*[2 * np.pi * np.fft.fftfreq(size) for size in image.shape], indexing="ij")
    response: Floats = np.fft.ifftn(np.fft.fftn(image) * ring(np.sqrt(sum(a**2 for a in axes)), level)).real
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
    for level, found in zip((1, 2, 3), simoncelli_maps(board, WHOLE, (1, 2, 3), "ibsi"), strict=True):
        yield f"8_a_{level}", f"Simoncelli {level}, ibsi", found
    for level in (1, 2, 3):
        yield f"8_a_{level}", f"Simoncelli {level}, exact, repeated edges", repeating(board, level)


def main(data_sets: Path, reference: Path) -> None:
    """Print one line a map."""
    print(f"{'map':6} {'filter':36} {'largest difference':>18} {'voxels off':>10}")
    for number, what, found in maps(data_sets / "ibsi_2_digital_phantom" / "nifti"):
        expected = read(reference / "reference_response_maps" / f"{number}-ValidCRM.nii")
        share = np.abs(found - expected) / np.ptp(expected)
        print(f"{number:6} {what:36} {share.max():17.4%} {int((share > 0.01).sum()):11}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        print(__doc__)
