"""A release's plan run again, compared with the release."""
