"""Studies: the file that describes one, and the pipeline that runs it."""

from histomri.study.config import Study
from histomri.study.options import Sample
from histomri.study.pipeline import StudyOutcome, run_study

__all__ = ["Sample", "Study", "StudyOutcome", "run_study"]
