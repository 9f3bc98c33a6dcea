"""Segmenters as the method sees them; SAM 2 is the only one so far."""
