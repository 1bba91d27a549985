"""The figures of the report and of `--figures`, by matplotlib; `files` writes them all."""
