"""The figures of the report and of `--figures`, by matplotlib: a file for each, and `files` that writes them all."""
