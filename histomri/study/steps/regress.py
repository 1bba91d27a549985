"""A table to linear models of standardised values."""

from histomri.analysis import regress_table
from histomri.study.result import writing

run = writing(regress_table)
