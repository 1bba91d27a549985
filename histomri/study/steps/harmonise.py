"""A table to the same table without the effect of the scanner."""

from histomri.analysis import harmonise_table
from histomri.study.result import writing

run = writing(harmonise_table)
