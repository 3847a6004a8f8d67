"""The simulated cell: LIBERO scenes, a scripted expert, demonstrations."""
