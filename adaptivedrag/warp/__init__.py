"""Content and its motion: what moves with a handle, and the picture in which it has moved."""

CONTENT_VERSION = 3
"""Version of how content is found and moved (`adaptivedrag.warp.content`, `.motion`). Raise it when
that changes: it enters the keys of the stages that find content, and of no other."""
