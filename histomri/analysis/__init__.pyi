from .agreement import (
    agree_table as agree_table, bias_by_size as bias_by_size, bland_altman as bland_altman,
    concordance as concordance, intraclass_correlation as intraclass_correlation,
)
from .attenuation import (
    TrueCorrelation as TrueCorrelation, attenuation_table as attenuation_table, true_correlation as true_correlation,
)
from .cases import (
    cases_of as cases_of, read_cases as read_cases, require_varying_histology as require_varying_histology,
    voxels_of as voxels_of,
)
from .comparison import (
    compare_models as compare_models, rank_by as rank_by, steiger_test as steiger_test, unlabelled as unlabelled,
    williams_test as williams_test,
)
from .correlation import Correlation as Correlation, adjust_p as adjust_p, correlate as correlate
from .correlation_tables import (
    as_matrix as as_matrix, correlate_table as correlate_table, correlation_table as correlation_table,
)
from .criteria import Verdict as Verdict, compare_criteria as compare_criteria
from .groups import compare_groups as compare_groups, compare_table as compare_table, compare_two as compare_two
from .harmonisation import (
    combat as combat, confounding as confounding, cramers_v as cramers_v, harmonise_table as harmonise_table,
)
from .influence import influence_notes as influence_notes, score_influence as score_influence
from .measurements import MeasurementTable as MeasurementTable, read_measurements as read_measurements
from .mixed import (
    correlate_repeated as correlate_repeated, random_intercept as random_intercept,
    repeated_correlation as repeated_correlation, slope_within_groups as slope_within_groups,
    within_between as within_between,
)
from .options import (
    AgreeOptions as AgreeOptions, CompareOptions as CompareOptions, CorrelateOptions as CorrelateOptions,
    HarmoniseOptions as HarmoniseOptions, PowerOptions as PowerOptions, PredictOptions as PredictOptions,
    RegressOptions as RegressOptions, ScoreOptions as ScoreOptions, StatisticsOptions as StatisticsOptions,
)
from .power import (
    correlation_power as correlation_power, critical_correlation as critical_correlation,
    detectable_correlation as detectable_correlation, plan_table as plan_table, sample_size as sample_size,
)
from .power_simulated import (
    cluster_power as cluster_power, difference_power as difference_power, first_power as first_power,
)
from .prediction import (
    cross_validated_prediction as cross_validated_prediction, fold_range as fold_range,
    log10_volume as log10_volume, polynomial as polynomial,
)
from .prediction_tables import Predictions as Predictions, first_ranked as first_ranked, predict_table as predict_table
from .pseudovalues import PseudoValues as PseudoValues
from .ranking import rank_models as rank_models
from .ranking_notes import (
    headline as headline, missing_cases as missing_cases, ranking_warnings as ranking_warnings,
)
from .regression import regress as regress, regress_table as regress_table, variance_inflation as variance_inflation
from .repeatability import Repeatability as Repeatability, repeat_table as repeat_table, repeatability as repeatability
from .results import Findings as Findings
from .sandwich import cluster_robust as cluster_robust
from .scores import (
    bic_votes as bic_votes, histology_fidelity as histology_fidelity,
    total_correlation_score as total_correlation_score,
)
from .scoring import score_table as score_table
from .selection import Rivals as Rivals, optimism as optimism
from .spatial import (
    effective_sample_size as effective_sample_size, spatial_correlation as spatial_correlation,
    voxel_spacing as voxel_spacing,
)
from .statistics import Statistics as Statistics, study_statistics as study_statistics
from .summary import summarise_voxels as summarise_voxels
from .voxel_grid import VoxelGrid as VoxelGrid
from .voxels import correlate_voxels as correlate_voxels
from .within import (
    decompose as decompose, pooled_against_within as pooled_against_within, scores_within as scores_within,
)
