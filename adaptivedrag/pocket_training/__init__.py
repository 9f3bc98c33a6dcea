"""Training of the pocket models, in memory; `flows/pocket` saves the results."""
