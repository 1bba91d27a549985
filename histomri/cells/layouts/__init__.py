"""The layouts of other programs' files: one file each, which registers itself."""

# For the help of the command line, which loads no declaration; registry.py refuses a layout that is not listed here.
LAYOUT_NAMES = (
    "mcmicro", "xenium", "cdqupath", "cellprofiler", "regionprops", "imagej", "cellvit", "tiatoolbox", "hovernet",
    "annotations", "polygons",
)  # fmt: skip
