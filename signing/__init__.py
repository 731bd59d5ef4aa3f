"""Digests, manifests, in-toto statements, Sigstore bundles and their verification. Knows neither policy nor executor."""
