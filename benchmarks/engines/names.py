"""Which value of an oracle is which of ours: by IBSI's tag (Z-Rad) or permanent identifier (pictologics).

ours("shape|volume_mesh")                                      # "original|RNU0"
theirs("z-rad", "log_2mm|glcm|cm_contrast_3D_comb")            # "log_2mm|ACUI"
theirs("pictologics", "original|shape|volume_RNU0")            # "original|RNU0"
"""

from __future__ import annotations

import re

from fedloupe.features import FEATURES, identify

_BY_TAG = {feature.ibsi_tag: feature.ibsi_id for family in FEATURES.values() for feature in family}
_FAMILY = {feature.ibsi_id: name for name, family in FEATURES.items() for feature in family}
# pictologics 0.9.0 writes the identifiers of two percentiles of the histogram wrongly.
_MISWRITTEN = {
    "10th_discretised_intensity_percentile_1PR": "GPMT",
    "90th_discretised_intensity_percentile_GPMT": "OZ0C",
}


def ours(column: str) -> str:
    """FILTER|IDENTIFIER of a column without its sequence."""
    image = "original" if column.startswith("shape|") else column.partition("|")[0]
    return f"{image}|{identify(column).ibsi_id}"


def theirs(engine: str, key: str) -> str | None:
    """FILTER|IDENTIFIER of an oracle's value, None where we have no such feature."""
    image, _, name = key.split("|")
    if engine.startswith("z-rad"):
        code = _BY_TAG.get(re.sub(r"_3D(_comb)?$", "", name))
    else:
        code = _MISWRITTEN.get(name, name.rsplit("_", 1)[-1])
        code = code if code in _FAMILY else None
    return code and f"{image}|{code}"


def family(code: str) -> str:
    """Our family of an identifier."""
    return _FAMILY[code]
