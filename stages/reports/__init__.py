"""What users look at: the page of results, panels, tables."""
