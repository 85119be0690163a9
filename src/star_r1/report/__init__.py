"""From run folders to one page that a browser opens without a network."""
