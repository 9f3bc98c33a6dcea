"""What is done, what is missing and why, and the time and room it will take."""
