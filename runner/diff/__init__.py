"""What differs between two published versions."""
