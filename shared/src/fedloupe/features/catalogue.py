"""The features: our name, IBSI's tag and IBSI's permanent identifier, family by family, in the order of columns.

    FEATURES["glcm"][0]      # Feature(name="joint_maximum", ibsi_tag="cm_joint_max", ibsi_id="GYBY")

Left out are IBSI's densities of the oriented box and of the enclosing ellipsoid and the area under the
intensity-volume curve: for these there is no consensus value that an implementation could be held against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal[
    "firstorder", "histogram", "glcm", "glrlm", "glszm", "gldzm", "ngtdm", "ngldm"
]  # of every image; "shape" is apart
OriginalFamily = Literal["spatial", "local", "ivh"]  # of unfiltered images

# A line a feature: our name, IBSI tag, IBSI permanent identifier (Zwanenburg 2020, Radiology 295:328).
_SHAPE = """
volume_mesh morph_volume RNU0
volume_voxel morph_vol_approx YEKZ
surface_area morph_area_mesh C0JK
surface_to_volume morph_av 2PR5
compactness_1 morph_comp_1 SKGS
compactness_2 morph_comp_2 BQWJ
spherical_disproportion morph_sph_dispr KRCK
sphericity morph_sphericity QCFX
asphericity morph_asphericity 25C7
max_3d_diameter morph_diam L0JK
major_axis_length morph_pca_maj_axis TDIC
minor_axis_length morph_pca_min_axis P9VJ
least_axis_length morph_pca_least_axis 7J51
elongation morph_pca_elongation Q3CK
flatness morph_pca_flatness N17B
volume_density_aabb morph_vol_dens_aabb PBX1
area_density_aabb morph_area_dens_aabb R59B
volume_density_aee morph_vol_dens_aee 6BDE
area_density_aee morph_area_dens_aee RDD2
volume_density_hull morph_vol_dens_conv_hull R3ER
area_density_hull morph_area_dens_conv_hull 7T7F
"""
_FIRSTORDER = """
mean stat_mean Q4LE
variance stat_var ECT3
skewness stat_skew KE2A
excess_kurtosis stat_kurt IPH6
median stat_median Y12H
minimum stat_min 1GSF
percentile_10 stat_p10 QG58
percentile_90 stat_p90 8DWT
maximum stat_max 84IY
interquartile_range stat_iqr SALO
range stat_range 2OJQ
mean_absolute_deviation stat_mad 4FUA
robust_mean_absolute_deviation stat_rmad 1128
median_absolute_deviation stat_medad N72L
coefficient_of_variation stat_cov 7TET
quartile_coefficient_of_dispersion stat_qcod 9S40
energy stat_energy N8CA
root_mean_square stat_rms 5ZWQ
"""
_HISTOGRAM = """
mean ih_mean X6K6
variance ih_var CH89
skewness ih_skew 88K1
excess_kurtosis ih_kurt C3I7
median ih_median WIFQ
minimum ih_min 1PR8
percentile_10 ih_p10 GPMT
percentile_90 ih_p90 OZ0C
maximum ih_max 3NCY
mode ih_mode AMMC
interquartile_range ih_iqr WR0O
range ih_range 5Z3W
mean_absolute_deviation ih_mad D2ZX
robust_mean_absolute_deviation ih_rmad WRZB
median_absolute_deviation ih_medad 4RNL
coefficient_of_variation ih_cov CWYJ
quartile_coefficient_of_dispersion ih_qcod SLWD
entropy ih_entropy TLU2
uniformity ih_uniformity BJ5W
maximum_gradient ih_max_grad 12CE
maximum_gradient_level ih_max_grad_g 8E6O
minimum_gradient ih_min_grad VQB3
minimum_gradient_level ih_min_grad_g RHQZ
"""
_SPATIAL = """
centre_of_mass_shift morph_com KLMA
integrated_intensity morph_integ_int 99N0
moran_i morph_moran_i N365
geary_c morph_geary_c NPT7
"""
_LOCAL = """
local_peak loc_peak_loc VJGA
global_peak loc_peak_glob 0F91
"""
_IVH = """
volume_fraction_10 ivh_v10 BC2M
volume_fraction_90 ivh_v90 BC2M
intensity_10 ivh_i10 GBPN
intensity_90 ivh_i90 GBPN
volume_fraction_difference ivh_diff_v10_v90 DDTU
intensity_difference ivh_diff_i10_i90 CNV2
"""
_GLCM = """
joint_maximum cm_joint_max GYBY
joint_average cm_joint_avg 60VM
joint_variance cm_joint_var UR99
joint_entropy cm_joint_entr TU9B
difference_average cm_diff_avg TF7R
difference_variance cm_diff_var D3YU
difference_entropy cm_diff_entr NTRS
sum_average cm_sum_avg ZGXS
sum_variance cm_sum_var OEEB
sum_entropy cm_sum_entr P6QZ
angular_second_moment cm_energy 8ZQL
contrast cm_contrast ACUI
dissimilarity cm_dissimilarity 8S9J
inverse_difference cm_inv_diff IB1Z
inverse_difference_normalised cm_inv_diff_norm NDRX
inverse_difference_moment cm_inv_diff_mom WF0Z
inverse_difference_moment_normalised cm_inv_diff_mom_norm 1QCO
inverse_variance cm_inv_var E8JP
correlation cm_corr NI2N
autocorrelation cm_auto_corr QWB0
cluster_tendency cm_clust_tend DG8W
cluster_shade cm_clust_shade 7NFM
cluster_prominence cm_clust_prom AE86
information_correlation_1 cm_info_corr1 R8DG
information_correlation_2 cm_info_corr2 JN9H
"""
_GLRLM = """
short_runs_emphasis rlm_sre 22OV
long_runs_emphasis rlm_lre W4KF
low_grey_level_run_emphasis rlm_lgre V3SW
high_grey_level_run_emphasis rlm_hgre G3QZ
short_run_low_grey_level_emphasis rlm_srlge HTZT
short_run_high_grey_level_emphasis rlm_srhge GD3A
long_run_low_grey_level_emphasis rlm_lrlge IVPO
long_run_high_grey_level_emphasis rlm_lrhge 3KUM
grey_level_non_uniformity rlm_glnu R5YN
grey_level_non_uniformity_normalised rlm_glnu_norm OVBL
run_length_non_uniformity rlm_rlnu W92Y
run_length_non_uniformity_normalised rlm_rlnu_norm IC23
run_percentage rlm_r_perc 9ZK5
grey_level_variance rlm_gl_var 8CE5
run_length_variance rlm_rl_var SXLW
run_entropy rlm_rl_entr HJ9O
"""
_GLSZM = """
small_zone_emphasis szm_sze P001
large_zone_emphasis szm_lze 48P8
low_grey_level_zone_emphasis szm_lgze XMSY
high_grey_level_zone_emphasis szm_hgze 5GN9
small_zone_low_grey_level_emphasis szm_szlge 5RAI
small_zone_high_grey_level_emphasis szm_szhge HW1V
large_zone_low_grey_level_emphasis szm_lzlge YH51
large_zone_high_grey_level_emphasis szm_lzhge J17V
grey_level_non_uniformity szm_glnu JNSA
grey_level_non_uniformity_normalised szm_glnu_norm Y1RO
zone_size_non_uniformity szm_zsnu 4JP3
zone_size_non_uniformity_normalised szm_zsnu_norm VB3A
zone_percentage szm_z_perc P30P
grey_level_variance szm_gl_var BYLV
zone_size_variance szm_zs_var 3NSA
zone_size_entropy szm_zs_entr GU8N
"""
_GLDZM = """
small_distance_emphasis dzm_sde 0GBI
large_distance_emphasis dzm_lde MB4I
low_grey_level_zone_emphasis dzm_lgze S1RA
high_grey_level_zone_emphasis dzm_hgze K26C
small_distance_low_grey_level_emphasis dzm_sdlge RUVG
small_distance_high_grey_level_emphasis dzm_sdhge DKNJ
large_distance_low_grey_level_emphasis dzm_ldlge A7WM
large_distance_high_grey_level_emphasis dzm_ldhge KLTH
grey_level_non_uniformity dzm_glnu VFT7
grey_level_non_uniformity_normalised dzm_glnu_norm 7HP3
zone_distance_non_uniformity dzm_zdnu V294
zone_distance_non_uniformity_normalised dzm_zdnu_norm IATH
zone_percentage dzm_z_perc VIWW
grey_level_variance dzm_gl_var QK93
zone_distance_variance dzm_zd_var 7WT1
zone_distance_entropy dzm_zd_entr GBDU
"""
_NGTDM = """
coarseness ngt_coarseness QCDE
contrast ngt_contrast 65HE
busyness ngt_busyness NQ30
complexity ngt_complexity HDEZ
strength ngt_strength 1X9X
"""
_NGLDM = """
low_dependence_emphasis ngl_lde SODN
high_dependence_emphasis ngl_hde IMOQ
low_grey_level_count_emphasis ngl_lgce TL9H
high_grey_level_count_emphasis ngl_hgce OAE7
low_dependence_low_grey_level_emphasis ngl_ldlge EQ3F
low_dependence_high_grey_level_emphasis ngl_ldhge JA6D
high_dependence_low_grey_level_emphasis ngl_hdlge NBZI
high_dependence_high_grey_level_emphasis ngl_hdhge 9QMG
grey_level_non_uniformity ngl_glnu FP8K
grey_level_non_uniformity_normalised ngl_glnu_norm 5SPA
dependence_count_non_uniformity ngl_dcnu Z87G
dependence_count_non_uniformity_normalised ngl_dcnu_norm OKJI
dependence_count_percentage ngl_dc_perc 6XV8
grey_level_variance ngl_gl_var 1PFV
dependence_count_variance ngl_dc_var DNX2
dependence_count_entropy ngl_dc_entr FCBV
dependence_count_energy ngl_dc_energy CAS9
"""


@dataclass(frozen=True)
class Feature:
    """One feature of a family: our name, IBSI's tag (without aggregation) and IBSI's permanent identifier."""

    name: str
    ibsi_tag: str
    ibsi_id: str


def _read(lines: str) -> tuple[Feature, ...]:
    return tuple(Feature(*line.split()) for line in lines.strip().splitlines())


FEATURES: dict[str, tuple[Feature, ...]] = {
    "shape": _read(_SHAPE),
    "firstorder": _read(_FIRSTORDER),
    "histogram": _read(_HISTOGRAM),
    "glcm": _read(_GLCM),
    "glrlm": _read(_GLRLM),
    "glszm": _read(_GLSZM),
    "gldzm": _read(_GLDZM),
    "ngtdm": _read(_NGTDM),
    "ngldm": _read(_NGLDM),
    "spatial": _read(_SPATIAL),
    "local": _read(_LOCAL),
    "ivh": _read(_IVH),
}
# In the order of columns.
ALL_FAMILIES: tuple[Family, ...] = (
    "firstorder", "histogram", "glcm", "glrlm", "glszm", "gldzm", "ngtdm", "ngldm"
)  # fmt: skip
ORIGINAL_FAMILIES: tuple[OriginalFamily, ...] = ("spatial", "local", "ivh")
