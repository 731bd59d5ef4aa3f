"""Static inventories, one module per artifact format. They read bytes; they load, import and run nothing of them.

An inventory is a JSON object: `format`, `operators` (namespace, name, count, places), and `findings` (id, place,
detail) for what has no operator name: a structure that the format's readers disagree on, or that none should need.
"""

from worker.inventory.report import Inventory
from worker.inventory.sniff import sniff

__all__ = ["Inventory", "sniff"]
