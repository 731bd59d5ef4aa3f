"""One run: the journey from a prepared job to a release, and the containers on its way."""
