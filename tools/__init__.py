"""Model-side helpers that run with torch: export, script, check. Baked into the image; no host module imports them."""
