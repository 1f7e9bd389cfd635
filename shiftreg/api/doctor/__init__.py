"""Is the registry whole? What is damaged, what was tampered with, and how to repair it."""
