"""What is not in the marts: counted, shown, handed on, taken back in."""
