"""Image definitions, locks and the deterministic builder: the same digest from the lock alone, without root."""
