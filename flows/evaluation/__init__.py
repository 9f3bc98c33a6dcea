"""Evaluation of jobs beside controls, and of a method with its modules on and off."""
