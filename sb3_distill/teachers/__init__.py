"""What a teacher is, and the families of them."""
