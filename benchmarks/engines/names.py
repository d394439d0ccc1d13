"""Which value of an oracle is which of ours: by IBSI's tag (Z-Rad) or permanent identifier (pictologics).

ours("shape|volume_mesh")                                      # "original|morph_volume"
theirs("z-rad", "log_2mm|glcm|cm_contrast_3D_comb")            # "log_2mm|cm_contrast"
theirs("pictologics", "original|shape|volume_RNU0")            # "original|morph_volume"
"""

from __future__ import annotations

import re

from fedloupe.features import FEATURES, identify

_FAMILY = {feature.ibsi_tag: name for name, family in FEATURES.items() for feature in family}
_TAG = {feature.ibsi_id: feature.ibsi_tag for family in FEATURES.values() for feature in family}
# pictologics 0.9.0 writes the identifiers of two percentiles of the histogram wrongly; those of the intensity-volume
# histogram need their fraction.
_OWN = {
    "10th_discretised_intensity_percentile_1PR": "ih_p10",
    "90th_discretised_intensity_percentile_GPMT": "ih_p90",
    "volume_at_intensity_fraction_0.10_BC2M_10": "ivh_v10",
    "volume_at_intensity_fraction_0.90_BC2M_90": "ivh_v90",
    "intensity_at_volume_fraction_0.10_GBPN_10": "ivh_i10",
    "intensity_at_volume_fraction_0.90_GBPN_90": "ivh_i90",
}


def ours(column: str) -> str:
    """FILTER|TAG of a column without its sequence."""
    image = "original" if column.startswith("shape|") else column.partition("|")[0]
    return f"{image}|{identify(column).ibsi_tag}"


def theirs(engine: str, key: str) -> str | None:
    """FILTER|TAG of an oracle's value, None where we have no such feature."""
    image, _, name = key.split("|")
    if engine.startswith("z-rad"):
        tag = re.sub(r"_3D(_comb)?$", "", name)
    else:
        tag = _OWN.get(name) or _TAG.get(name.rsplit("_", 1)[-1], "")
    return f"{image}|{tag}" if tag in _FAMILY else None


def family(tag: str) -> str:
    """Our family of a tag."""
    return _FAMILY[tag]
