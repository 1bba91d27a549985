"""The in-silico study: tissues on a lattice, walked, fitted by every model, and scored by the truth."""
