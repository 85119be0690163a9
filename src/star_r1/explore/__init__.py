"""The explorer: a folder that opens in a browser, with every sample and what was said of it."""
