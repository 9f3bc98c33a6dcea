"""Segmenters as the method sees them; SAM 2 is the one that there is."""
