from .pipeline import StudyOutcome as StudyOutcome
from .pipeline import run_study as run_study
from .pipeline import select_samples as select_samples
from .result import StepResult as StepResult
from .sample import Sample as Sample
from .sample import SampleOutcome as SampleOutcome
from .study_file import Study as Study
