"""Texture features from the matrices of `counts`: one formula set serves all four emphasis families.

    glcm_features(glcm)                                    # 25
    emphasis_features(glrlm, lengths, possible=13 * n)     # 16 (17 with energy, for NGLDM)
    ngtdm_features(valid, differences)                     # 5

In the order of fedloupe.features. Undefined values come out as NaN or infinity; `extract` declares them.
"""

from __future__ import annotations

import numpy as np

from fedloupe_client.radiomics.kernel import Floats, Ints, kernel


@kernel
def glcm_features(counts: Ints) -> Floats:
    """IBSI grey level co-occurrence features (LFYI) of a symmetric matrix (G, G) with at least one pair.

    Returns:
        (25). Entropies in bits; normalised inverse differences use G.
    """
    size = counts.shape[0]
    total = counts.sum()
    marginal = np.zeros(size, dtype=np.float64)
    difference = np.zeros(size, dtype=np.float64)
    summed = np.zeros(2 * size - 1, dtype=np.float64)
    out = np.zeros(25, dtype=np.float64)
    for i in range(size):
        for j in range(size):
            if counts[i, j] == 0:
                continue
            p = counts[i, j] / total
            apart = abs(i - j)
            marginal[i] += p
            difference[apart] += p
            summed[i + j] += p
            out[0] = max(out[0], p)
            out[1] += (i + 1) * p
            out[3] -= p * np.log2(p)
            out[10] += p * p
            out[19] += (i + 1) * (j + 1) * p
    mean = out[1]
    for k in range(size):
        p = difference[k]
        out[2] += (k + 1 - mean) ** 2 * marginal[k]
        out[4] += k * p
        out[11] += k * k * p
        out[13] += p / (1 + k)
        out[14] += p / (1 + k / size)
        out[15] += p / (1 + k * k)
        out[16] += p / (1 + k * k / (size * size))
        if k > 0:
            out[17] += p / (k * k)
        if p > 0:
            out[6] -= p * np.log2(p)
    out[12] = out[4]
    for k in range(size):
        out[5] += (k - out[4]) ** 2 * difference[k]
    for k in range(2 * size - 1):
        p = summed[k]
        out[7] += (k + 2) * p
        if p > 0:
            out[9] -= p * np.log2(p)
    for k in range(2 * size - 1):
        d = k + 2 - out[7]
        out[8] += d * d * summed[k]
        # i + j - 2 mean is the same deviation: cluster features are the moments of the sum
        out[21] += d * d * d * summed[k]
        out[22] += d * d * d * d * summed[k]
    out[20] = out[8]
    out[18] = (out[19] - mean * mean) / out[2]
    marginal_entropy = 0.0
    for p in marginal:
        if p > 0:
            marginal_entropy -= p * np.log2(p)
    # The matrix is symmetric, so HXY1 = HXY2 = HX + HY = 2 HX.
    excess = max(2 * marginal_entropy - out[3], 0.0)
    out[23] = -excess / marginal_entropy
    out[24] = np.sqrt(1 - np.exp(-2 * excess))
    return out


@kernel
def emphasis_features(counts: Ints, values: Ints, possible: int) -> Floats:
    """Features of a matrix of grey level against run length, zone size, zone distance or dependence.

    IBSI GLRLM (TP0I), GLSZM (9SAK), GLDZM (VMDZ) and NGLDM (REK0) share these definitions.

    Args:
        counts: (G, V), at least one count.
        values: (V), what a column stands for, from 1.
        possible: how many elements there could be, for the percentage.

    Returns:
        (17): low and high emphasis of the value, of the grey level, and of both; non-uniformity of the grey
        level and of the value, each also normalised; percentage; variance of both; entropy (bits); energy.
    """
    rows, columns = counts.shape
    total = counts.sum()
    by_value = np.zeros(columns, dtype=np.float64)
    out = np.zeros(17, dtype=np.float64)
    mean_grey, mean_value = 0.0, 0.0
    for i in range(rows):
        grey = i + 1.0
        row = 0.0
        for j in range(columns):
            if counts[i, j] == 0:
                continue
            p = counts[i, j] / total
            value = float(values[j])
            row += p
            by_value[j] += p
            out[4] += p / (value * value * grey * grey)
            out[5] += p * grey * grey / (value * value)
            out[6] += p * value * value / (grey * grey)
            out[7] += p * value * value * grey * grey
            out[15] -= p * np.log2(p)
            out[16] += p * p
        out[2] += row / (grey * grey)
        out[3] += row * grey * grey
        out[9] += row * row
        mean_grey += row * grey
    for j in range(columns):
        value = float(values[j])
        out[0] += by_value[j] / (value * value)
        out[1] += by_value[j] * value * value
        out[11] += by_value[j] * by_value[j]
        mean_value += by_value[j] * value
    for i in range(rows):
        for j in range(columns):
            if counts[i, j] > 0:
                p = counts[i, j] / total
                out[13] += p * (i + 1 - mean_grey) ** 2
                out[14] += p * (values[j] - mean_value) ** 2
    out[8], out[10] = out[9] * total, out[11] * total
    out[12] = total / possible
    return out


@kernel
def ngtdm_features(valid: Ints, differences: Floats) -> Floats:
    """IBSI neighbourhood grey tone difference features (IPET).

    Args:
        valid: (G) voxels with a neighbour, by level, at least one in all.
        differences: (G) sums of |level - mean of the neighbours|.

    Returns:
        (5): coarseness, contrast, busyness, complexity, strength. IBSI sets the coarseness of an image without
        differences to 1e6; here it is infinite, and so declared undefined.
    """
    total = valid.sum()
    weighted, all_differences = 0.0, 0.0
    present = 0
    for i in range(valid.shape[0]):
        weighted += valid[i] / total * differences[i]
        all_differences += differences[i]
        present += valid[i] > 0
    spread, busy, complexity, strength = 0.0, 0.0, 0.0, 0.0
    for i in range(valid.shape[0]):
        if valid[i] == 0:
            continue
        p = valid[i] / total
        for j in range(valid.shape[0]):
            if valid[j] == 0:
                continue
            q = valid[j] / total
            spread += p * q * (i - j) ** 2
            busy += abs((i + 1) * p - (j + 1) * q)
            complexity += abs(i - j) * (p * differences[i] + q * differences[j]) / (p + q)
            strength += (p + q) * (i - j) ** 2
    out = np.empty(5, dtype=np.float64)
    out[0] = 1 / weighted
    out[1] = spread / (present * (present - 1)) * all_differences / total
    out[2] = weighted / busy
    out[3] = complexity / total
    out[4] = strength / all_differences
    return out
