"""The command line of histomri: one module per command, installed as the package histomri_cli."""
