"""Changes of sources: what depends on them, and patches of the project that follow them."""
