"""Looks at everything a run relies on, and says what is wrong and how to mend it."""
