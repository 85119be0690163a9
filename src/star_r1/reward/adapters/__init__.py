"""The same rewards as each training framework calls them."""
