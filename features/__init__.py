"""Call histories to vectors."""
