"""`wellspring add`: a system is asked what it has, and its declaration is written."""
