"""Names of the states in which Prefect shows the flow runs of shards.

They are for the eye. What is done is said by the store alone.
"""

EDITS_FAILED = "Edits failed"
STOPPED = "Stopped"
"""It ended before its time: too many failures, no time left, a store that does not work."""
REFUSED = "Refused"
"""By a worker that has not what the plan was made with; another may take it."""
OUTDATED = "Outdated"
"""The job has changed since: submit it again."""
LEFT = "Left"
"""The worker was told to leave before the shard was done."""
PASSED_ON = "Passed on"
"""Another flow run goes on with what was left."""
GIVEN_UP = "Given up"
"""Too many runs in a row died before they had made anything."""
SETTLED = (EDITS_FAILED, STOPPED, OUTDATED, PASSED_ON, GIVEN_UP)
"""A flow run in one of these needs nothing more."""
