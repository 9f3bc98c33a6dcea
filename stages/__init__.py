"""The stages of an edit, each a file; `stages.pipeline` has them in order."""
