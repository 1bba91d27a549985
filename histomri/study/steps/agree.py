"""A table to the agreement of MRI and histology, or of any two columns."""

from histomri.analysis import agree_table
from histomri.study.result import writing

run = writing(agree_table)
