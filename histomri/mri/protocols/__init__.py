"""The forms of protocol files: one file each, which registers itself."""
