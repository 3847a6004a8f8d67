"""Reading files that nobody has looked at yet: bounded, typed, and refused by name."""
