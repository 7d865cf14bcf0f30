"""Tells people what fails anew and what has recovered, once each."""
