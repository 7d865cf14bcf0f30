"""What sources look like, reading by reading, and how that changes."""
