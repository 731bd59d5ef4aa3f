"""Digests, manifests, in-toto statements, Sigstore bundles and verification. Knows neither policy nor executor."""
