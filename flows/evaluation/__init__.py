"""Runs and judges jobs beside controls, and a method with its modules on and off."""
