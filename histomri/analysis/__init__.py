"""Statistics of paired tables: correlations, scores of models, ranking, regression, groups, agreement, power."""

from histomri.analysis.agreement import bias_by_size, bland_altman, concordance, intraclass_correlation
from histomri.analysis.comparison import compare_models, rank_by, steiger_test, unlabelled, williams_test
from histomri.analysis.correlation import Correlation, correlate
from histomri.analysis.groups import compare_groups, compare_two
from histomri.analysis.harmonisation import combat, confounding, cramers_v
from histomri.analysis.matrix import as_matrix, correlation_table
from histomri.analysis.mixed import random_intercept, repeated_correlation, within_between
from histomri.analysis.multiple import adjust_p
from histomri.analysis.power import correlation_power, critical_correlation, detectable_correlation, sample_size
from histomri.analysis.prediction import cross_validated_prediction, fold_range, log10_volume, polynomial
from histomri.analysis.ranking import missing_cases, rank_models, ranking_warnings
from histomri.analysis.regression import regress, variance_inflation
from histomri.analysis.repeated import correlate_repeated
from histomri.analysis.scores import bic_votes, histology_fidelity, total_correlation_score
from histomri.analysis.sheets import Sheet, read_sheet
from histomri.analysis.spatial import VoxelGrid, effective_sample_size, spatial_correlation, voxel_spacing
from histomri.analysis.tables import cases_of, open_pairs, read_cases, require_varying_histology, voxels_of
from histomri.analysis.voxels import correlate_voxels

__all__ = [
    "Correlation",
    "Sheet",
    "VoxelGrid",
    "adjust_p",
    "as_matrix",
    "bias_by_size",
    "bic_votes",
    "bland_altman",
    "cases_of",
    "combat",
    "compare_groups",
    "compare_models",
    "compare_two",
    "concordance",
    "confounding",
    "correlate",
    "correlate_repeated",
    "correlate_voxels",
    "correlation_power",
    "correlation_table",
    "cramers_v",
    "critical_correlation",
    "cross_validated_prediction",
    "detectable_correlation",
    "effective_sample_size",
    "fold_range",
    "histology_fidelity",
    "intraclass_correlation",
    "log10_volume",
    "missing_cases",
    "open_pairs",
    "polynomial",
    "random_intercept",
    "rank_by",
    "rank_models",
    "ranking_warnings",
    "read_cases",
    "read_sheet",
    "regress",
    "repeated_correlation",
    "require_varying_histology",
    "sample_size",
    "spatial_correlation",
    "steiger_test",
    "total_correlation_score",
    "unlabelled",
    "variance_inflation",
    "voxel_spacing",
    "voxels_of",
    "williams_test",
    "within_between",
]
