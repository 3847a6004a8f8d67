"""The simulated arm: a LIBERO scene that publishes what a real cell would."""
