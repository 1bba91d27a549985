"""The stages of a study, each from files to files; the commands of the command line call the same functions."""

from histomri.study.stages.result import StageResult

__all__ = ["StageResult"]
