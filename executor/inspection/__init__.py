"""What inspections report, and the decision on it."""
