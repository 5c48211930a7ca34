"""The mathematics of an update rule: distributions, losses, rewards, temperatures, and the table of methods."""
