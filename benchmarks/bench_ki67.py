"""Ki-67 of a public section, as area and as index, beside the positive share that QuPath's author published for it.

The picture is OS-2-ndpi.ome.tif of github.com/petebankhead/2022-qupath-cell-detection (0.216 mm²), whose table gives
QuPath's positive cell detection at two thresholds of detection and two of DAB. QuPath is not run here: nuclei are found
by a plain threshold and watershed, on the same optical density sum and limits of size, so they are other nuclei. The
background is 255 there, so it is typed here; the other rows take the glass.

Usage: python benchmarks/bench_ki67.py OS-2-ndpi.ome.tif
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from machine import describe
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.morphology import disk, reconstruction
from skimage.segmentation import watershed

from histomri.patches import measure_stained_area, measure_stained_cells
from histomri.slides import Slide, open_slide

# Threshold of detection and of DAB: cells and positive share (%) in the published table (QuPath 0.3.2).
PUBLISHED = {(0.2, 0.2): (1323, 16.6), (0.2, 0.5): (1323, 11.9), (0.4, 0.2): (1066, 20.5), (0.4, 0.5): (1066, 14.7)}
DETECTION = 0.2
UM, SIGMA_UM, GROUND_UM, LEAST_DISTANCE_UM, LEAST_UM2, MOST_UM2 = 0.5, 0.75, 8.0, 2.0, 10.0, 400.0
WHITE = (255.0, 255.0, 255.0)


def write_nuclei(slide: Slide, path: Path, threshold: float) -> None:
    """Write a mask of nuclei: optical density sum above its local ground, cut where a nucleus is narrow."""
    rgb, um = slide.thumbnail(UM).astype(float), slide.at(UM).um_per_px[0]
    density = -np.log10(np.maximum(rgb, 1) / 255).sum(axis=2)
    eroded = ndimage.grey_erosion(density, footprint=disk(round(GROUND_UM / um)))
    above = ndimage.gaussian_filter(density - reconstruction(eroded, density), SIGMA_UM / um) > threshold
    inside = ndimage.binary_fill_holes(ndimage.binary_opening(above, disk(2)))
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(inside), SIGMA_UM / um)
    peaks = peak_local_max(depth, min_distance=round(LEAST_DISTANCE_UM / um), labels=inside.astype(int))
    seeds = np.zeros(inside.shape, dtype=int)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-depth, seeds, mask=inside)
    area = np.bincount(labels.ravel()) * um**2
    keep = (area >= LEAST_UM2) & (area <= MOST_UM2)
    keep[0] = False
    tifffile.imwrite(path, np.where(keep, np.cumsum(keep), 0)[labels].astype(np.int32))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path, nargs="?")
    slide_path = parser.parse_args().slide
    print(describe("scikit-image", "tifffile"))
    if slide_path is None:
        print("skipped: name the picture OS-2-ndpi.ome.tif, which is not part of the project")
        return
    print("background  DAB   nuclei  positive   index %   area %")
    with tempfile.TemporaryDirectory() as folder, open_slide(slide_path) as slide:
        mask = Path(folder) / "nuclei.tif"
        write_nuclei(slide, mask, DETECTION)
        for background in (WHITE, None):
            for dab in (0.2, 0.5):
                found = measure_stained_cells(mask, slide, threshold=dab, background=background)
                area = measure_stained_area(slide, threshold=dab, background=background).value
                positive, negative = found.content["n_positive"], found.content["n_negative"]
                numbers = f"{positive + negative:8} {positive:9} {100 * found.value:9.1f} {100 * area:8.1f}"
                print(f"{'255' if background else 'glass':10} {dab:4} {numbers}")
    for (detection, dab), (n, share) in PUBLISHED.items():
        text = f"{n} nuclei, {share} % positive, so {n * share / 100:.0f}"
        print(f"published, QuPath 0.3.2, detection from {detection}, DAB from {dab}: {text}")


if __name__ == "__main__":
    main()
