"""Staging models, intermediates and first marts, drafted from what was discovered."""
