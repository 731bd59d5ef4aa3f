"""JSON and text: nothing in them runs; they are bounded, so that looking at one is."""

from worker.inventory.report import Data, Inventory
from worker.inventory.sniff import JSON_BYTES_MAX, TEXT_BYTES_MAX


def json_inventory(data: Data) -> Inventory:
    """Look at a JSON document, which `sniff` parsed where it is not too long."""
    return _bounded("json", data, JSON_BYTES_MAX)


def text_inventory(data: Data) -> Inventory:
    """Look at a text."""
    return _bounded("text", data, TEXT_BYTES_MAX)


def _bounded(form: str, data: Data, bytes_max: int) -> Inventory:
    report = Inventory(form)
    if len(data) > bytes_max:
        report.find("TEXT-LENGTH", "file", f"longer than {bytes_max} bytes: store tables as Parquet, arrays as NPZ")
    return report
