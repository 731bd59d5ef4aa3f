"""After an executor that died: what it left is removed, and its run gets its record."""
