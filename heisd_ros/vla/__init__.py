"""What models of any family share: two protocols, engines, decoder, drafter, files."""
