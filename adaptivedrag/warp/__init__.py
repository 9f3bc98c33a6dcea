"""Content and its motion: what moves with a handle, and the picture in which it has moved."""
