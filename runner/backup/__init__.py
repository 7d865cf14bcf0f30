"""Backups of landing and the run history, and the way back."""
