"""Rules that are tested: defects put into clean rows of a copy."""
