"""What all floors stand on: files, spaces, frames, messages, and listening to environments."""
