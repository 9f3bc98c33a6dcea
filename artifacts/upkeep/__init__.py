"""Checking, counting, collecting and copying what a store holds."""
