"""The feature engine behind one function: a case's images and mask in, one row of the feature table out.

from fedloupe_client.radiomics import extract_case
row = extract_case(images, mask, spacing_mm, settings, intensity)
"""

from fedloupe_client.radiomics.errors import EmptyRegion, GridMismatch, IntensityUnknown, NonFiniteIntensity
from fedloupe_client.radiomics.extract import Extraction, extract_case

__all__ = ["EmptyRegion", "Extraction", "GridMismatch", "IntensityUnknown", "NonFiniteIntensity", "extract_case"]
