"""What a robot's YAML says: every parameter, its check, the arm and the limits that follow."""
