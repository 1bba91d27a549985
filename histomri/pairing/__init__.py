"""Pair histology with MRI, per voxel through a transform or per sample, in tidy tables."""

from histomri.pairing.pair import pair_maps, pair_means
from histomri.pairing.table import PairedTable

__all__ = ["PairedTable", "pair_maps", "pair_means"]
