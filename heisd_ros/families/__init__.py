"""Model families, a folder each; `checkpoint` opens a checkpoint and picks the family."""
