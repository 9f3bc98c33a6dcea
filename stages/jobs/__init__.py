"""What users bring: job files, images, benchmarks of others."""
