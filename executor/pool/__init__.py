"""The warm pool: sealed containers that are started ahead, serve one job each, and are never used again."""
