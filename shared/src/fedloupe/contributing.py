"""Which requests take something of a site's patients into what a run fits: whoever answers one is no external site.

    isinstance(request, CONTRIBUTING)       # sums, weights, trees: training, tuning, harmonisation, quality, threshold

The coordinator notes who answered one (`contributed` in the seal), the site's gate remembers that it agreed to.
"""

from __future__ import annotations

from fedloupe.messages import (
    BucketsRequest,
    CalibrateRequest,
    ConformRequest,
    CovarianceRequest,
    CrossProductsRequest,
    DescribeRequest,
    EmbedRequest,
    GrowRequest,
    MidpointRequest,
    NewtonRequest,
    PriorRequest,
    RedundancyRequest,
    ResidualsRequest,
    SketchRequest,
    StabilityRequest,
    SummaryRequest,
    TrainRequest,
)

DESCRIBING = (SummaryRequest, BucketsRequest, CovarianceRequest)
COMBAT = (CrossProductsRequest, ResidualsRequest, PriorRequest)
JUDGING = (StabilityRequest, RedundancyRequest)
PREDICTING = (CalibrateRequest, EmbedRequest, ConformRequest)
CONTRIBUTING = (
    *DESCRIBING,
    DescribeRequest,
    *COMBAT,
    *JUDGING,
    SketchRequest,
    NewtonRequest,
    TrainRequest,
    GrowRequest,
    MidpointRequest,
    *PREDICTING,
)
