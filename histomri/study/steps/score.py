"""A table of pairs to the ranking of the models, and to tests between them."""

from histomri.analysis import score_table
from histomri.study.result import writing

run = writing(score_table)
