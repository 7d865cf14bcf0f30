"""Measures of what was built, what is unusual in them, and how far it can be trusted."""
