"""Random walks of water in permeable tissue. Nothing here knows the formulas that are fitted."""
