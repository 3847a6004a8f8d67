"""From an observation to the tokens of an action: drafts, verification, and when to skip it."""
