"""The layouts of other programs' files: one file each, which registers itself."""
