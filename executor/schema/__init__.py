"""JSON Schemas of what the executor sends and takes. Those of what is signed are in `signing/schema`."""
