from .agreement import (
    agree_table as agree_table,
)
from .agreement import (
    bias_by_size as bias_by_size,
)
from .agreement import (
    bland_altman as bland_altman,
)
from .agreement import (
    concordance as concordance,
)
from .agreement import (
    intraclass_correlation as intraclass_correlation,
)
from .cases import (
    cases_of as cases_of,
)
from .cases import (
    read_cases as read_cases,
)
from .cases import (
    require_varying_histology as require_varying_histology,
)
from .cases import (
    voxels_of as voxels_of,
)
from .comparison import (
    compare_models as compare_models,
)
from .comparison import (
    rank_by as rank_by,
)
from .comparison import (
    steiger_test as steiger_test,
)
from .comparison import (
    unlabelled as unlabelled,
)
from .comparison import (
    williams_test as williams_test,
)
from .correlation import Correlation as Correlation
from .correlation import correlate as correlate
from .correlation_tables import (
    as_matrix as as_matrix,
)
from .correlation_tables import (
    correlate_table as correlate_table,
)
from .correlation_tables import (
    correlation_table as correlation_table,
)
from .groups import (
    compare_groups as compare_groups,
)
from .groups import (
    compare_table as compare_table,
)
from .groups import (
    compare_two as compare_two,
)
from .harmonisation import combat as combat
from .harmonisation import confounding as confounding
from .harmonisation import cramers_v as cramers_v
from .harmonisation_tables import harmonise_table as harmonise_table
from .measurements import MeasurementTable as MeasurementTable
from .measurements import read_measurements as read_measurements
from .mixed import (
    random_intercept as random_intercept,
)
from .mixed import (
    repeated_correlation as repeated_correlation,
)
from .mixed import (
    within_between as within_between,
)
from .multiple import adjust_p as adjust_p
from .options import (
    AgreeOptions as AgreeOptions,
)
from .options import (
    CompareOptions as CompareOptions,
)
from .options import (
    CorrelateOptions as CorrelateOptions,
)
from .options import (
    HarmoniseOptions as HarmoniseOptions,
)
from .options import (
    PowerOptions as PowerOptions,
)
from .options import (
    PredictOptions as PredictOptions,
)
from .options import (
    RegressOptions as RegressOptions,
)
from .options import (
    ScoreOptions as ScoreOptions,
)
from .options import (
    StatisticsOptions as StatisticsOptions,
)
from .power import (
    correlation_power as correlation_power,
)
from .power import (
    critical_correlation as critical_correlation,
)
from .power import (
    detectable_correlation as detectable_correlation,
)
from .power import (
    plan_table as plan_table,
)
from .power import (
    sample_size as sample_size,
)
from .prediction import (
    cross_validated_prediction as cross_validated_prediction,
)
from .prediction import (
    fold_range as fold_range,
)
from .prediction import (
    log10_volume as log10_volume,
)
from .prediction import (
    polynomial as polynomial,
)
from .prediction_tables import (
    Predictions as Predictions,
)
from .prediction_tables import (
    first_ranked as first_ranked,
)
from .prediction_tables import (
    predict_table as predict_table,
)
from .ranking import (
    missing_cases as missing_cases,
)
from .ranking import (
    rank_models as rank_models,
)
from .ranking import (
    ranking_warnings as ranking_warnings,
)
from .regression import (
    regress as regress,
)
from .regression import (
    regress_table as regress_table,
)
from .regression import (
    variance_inflation as variance_inflation,
)
from .repeated import correlate_repeated as correlate_repeated
from .results import Findings as Findings
from .score_tables import score_table as score_table
from .scores import (
    bic_votes as bic_votes,
)
from .scores import (
    histology_fidelity as histology_fidelity,
)
from .scores import (
    total_correlation_score as total_correlation_score,
)
from .spatial import (
    VoxelGrid as VoxelGrid,
)
from .spatial import (
    effective_sample_size as effective_sample_size,
)
from .spatial import (
    spatial_correlation as spatial_correlation,
)
from .spatial import (
    voxel_spacing as voxel_spacing,
)
from .statistics import Statistics as Statistics
from .statistics import study_statistics as study_statistics
from .summary import summarise_voxels as summarise_voxels
from .voxels import correlate_voxels as correlate_voxels
