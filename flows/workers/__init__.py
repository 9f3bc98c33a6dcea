"""Many workers: shards of a job as flow runs of a work pool, and what brings lost ones back."""
