"""Training of the pocket models, in memory; `flows/train_pocket.py` keeps what comes out."""
