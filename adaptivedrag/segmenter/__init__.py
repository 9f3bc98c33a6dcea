"""SAM 2 as the method sees it; the only package that imports it."""
