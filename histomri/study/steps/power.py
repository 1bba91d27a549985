"""How many samples a correlation needs, and what the present number can detect."""

from histomri.analysis import plan_table
from histomri.study.result import writing

run = writing(plan_table)
