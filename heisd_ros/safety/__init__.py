"""Between policy and robot: what may be commanded, and how the arm starts and halts."""
