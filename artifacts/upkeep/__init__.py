"""Checks, counts, collects and copies what a store holds."""
