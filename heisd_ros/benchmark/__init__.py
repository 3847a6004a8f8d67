"""What decoding and search cost, part by part, beside their rooflines and peers."""
