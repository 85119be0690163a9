"""What the reasoning of a completion does: a reader of texts, and what many of them show."""
