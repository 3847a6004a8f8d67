"""A robot's YAML file: all parameters and their checks, the arm, and the safety limits."""
