"""The executor: runs untrusted PyTorch jobs in sealed containers and releases only what passes policy, signed."""

__version__ = "0.1.0"
