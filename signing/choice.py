"""Which of the three trust modes signs on this host, as it was chosen. Verification reads it: it imports little."""

import json
from pathlib import Path
from typing import Any

from signing.domain import DOMAIN_FILE
from signing.errors import TrustDomainError

TRUST_MODES = ("local", "keyless", "key")
PUBLIC_KEY = "public.pem"
TRUST_CONFIG = "client_trust_config.json"
CHOICE = "signer.json"
CHOICE_SCHEMA = "executor.signer/v1"


def is_chosen(folder: Path) -> bool:
    """Whether somebody signs on this host already: by choice, or because a run has made a local trust domain."""
    return (folder / CHOICE).exists() or (folder / DOMAIN_FILE).exists()


def mode_of(folder: Path) -> str:
    """Return the trust mode of a folder; `local` where none was chosen.

    Raises:
        TrustDomainError: What was chosen cannot be read.
    """
    return str(read_choice(folder)["mode"])


def read_choice(folder: Path) -> dict[str, Any]:
    """Return what was chosen, with its schema; the local mode where nothing was.

    Raises:
        TrustDomainError: It cannot be read.
    """
    try:
        document = json.loads((folder / CHOICE).read_bytes())
        if document["schema"] != CHOICE_SCHEMA or document["mode"] not in TRUST_MODES:
            raise ValueError("it is of another version")
        return dict(document)
    except FileNotFoundError:
        return {"mode": "local"}
    except OSError as err:
        raise TrustDomainError(f"cannot read who signs: {folder / CHOICE}: {err.strerror}") from err
    except (KeyError, TypeError, ValueError) as err:
        raise damaged(folder, err) from err


def damaged(folder: Path, err: Exception) -> TrustDomainError:
    """Return the error for a choice that cannot be used."""
    message = f"the choice of who signs is damaged: {folder / CHOICE}: {err}"
    return TrustDomainError(message, hint="choose again: executor trust init")
