"""What is there: looking up many keys with few requests, and remembering files."""
