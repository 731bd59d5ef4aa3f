"""Declares an output and sends none."""
