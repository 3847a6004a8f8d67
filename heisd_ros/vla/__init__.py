"""Code shared by all model families: protocols, engines, Llama decoder, drafter, files."""
