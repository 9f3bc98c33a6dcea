"""Look-ups of many keys with few requests, and caches of what files say."""
