"""Names, groups and order of radiomic features, and the settings that they depend on; not how they are computed.

    table = feature_table(FeatureSettings(), ["t2w", "adc"])
    table.names[0], table.groups[0]      # ("shape|volume_mesh", "shape")
    identify("t2w|log_3mm|glcm|joint_entropy").ibsi_tag      # "cm_joint_entr"

Grammar of a name: `shape|FEATURE` (once a case, from the mask) or `IMAGE[|rim_Nmm]|FILTER|FAMILY|FEATURE`, where IMAGE
is a sequence or `LATER:EARLIER`, the difference of two.
"""

from fedloupe.features.catalogue import (
    ALL_FAMILIES,
    FEATURES,
    ORIGINAL_FAMILIES,
    Family,
    Feature,
    OriginalFamily,
)
from fedloupe.features.settings import (
    Aggregation,
    BinNumber,
    BinSize,
    DiscretisationPlan,
    FeatureSettings,
    FeatureSettingsInvalid,
    Intensity,
    VolumeBinNumber,
    VolumeBinSize,
    VolumePlan,
    parse_settings,
)
from fedloupe.features.table import FeatureTable, blocks, feature_table, identify, sequences_of

__all__ = [
    "ALL_FAMILIES",
    "FEATURES",
    "ORIGINAL_FAMILIES",
    "Aggregation",
    "BinNumber",
    "BinSize",
    "DiscretisationPlan",
    "Family",
    "Feature",
    "FeatureSettings",
    "FeatureSettingsInvalid",
    "FeatureTable",
    "Intensity",
    "OriginalFamily",
    "VolumeBinNumber",
    "VolumeBinSize",
    "VolumePlan",
    "blocks",
    "feature_table",
    "identify",
    "parse_settings",
    "sequences_of",
]
