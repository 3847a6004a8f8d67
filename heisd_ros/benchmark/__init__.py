"""What decoding costs: steps and their parts, beside their rooflines and a peer."""
