"""The statistics of a study over its samples: correlate, regress, agree and compare, as far as they can be had."""

from histomri.analysis import study_statistics
from histomri.study.result import writing

run = writing(study_statistics)
