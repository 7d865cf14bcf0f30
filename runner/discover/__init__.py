"""What raw tables hold and how they belong together, found in the data."""
