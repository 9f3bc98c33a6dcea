"""Stable Diffusion as the method sees it: weights, schedule, LoRA, and how to save memory."""
