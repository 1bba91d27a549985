"""The in-silico study: walked signals of known tissue, fitted by every model and scored against the truth."""
