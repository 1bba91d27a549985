"""A table to correlations of its columns: of samples, of groups of rows, or of voxels."""

from histomri.analysis import correlate_table
from histomri.study.result import writing

run = writing(correlate_table)
