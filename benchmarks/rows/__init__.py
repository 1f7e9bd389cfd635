"""The rows of the table: each measures what shiftreg does beside what others would do."""
