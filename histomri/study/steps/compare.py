"""A table to differences between groups."""

from histomri.analysis import compare_table
from histomri.study.result import writing

run = writing(compare_table)
