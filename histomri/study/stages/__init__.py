"""The stages of a study, each from files to files; the commands of the command line call the same functions."""

from histomri.study.result import StepResult

__all__ = ["StepResult"]
