"""A cluster on one machine: PostgreSQL, Prefect's server, the deployment and a worker, kept alive.

`control` starts and stops it, `keeper` is the process that watches over its parts. What a cluster
is lies in its home; two locks there say who is alive, since a process number alone proves nothing.
"""
