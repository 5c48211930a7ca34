"""From the name of an agent to a teacher: files are found, and read without running anything in them."""
