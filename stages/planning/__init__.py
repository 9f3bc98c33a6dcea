"""What is done, what is missing and why, and what it will take."""
