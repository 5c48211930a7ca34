"""Commands that print the numbers of the documentation. They run from a clone, and are not installed."""
