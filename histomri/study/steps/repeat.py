"""A test-retest table to the repeatability of its measurements."""

from histomri.analysis import repeat_table
from histomri.study.result import writing

run = writing(repeat_table)
