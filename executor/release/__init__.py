"""From approved bytes to a release: gate, statements, record, signer, publication."""
