"""A certificate for this machine's loopback names, signed by nobody that anybody knows."""

from __future__ import annotations

from pathlib import Path

import trustme


def certificate(folder: Path) -> tuple[Path, Path, Path]:
    """The certificate, its key, and the authority that one has to trust."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    paths = folder / "cert.pem", folder / "key.pem", folder / "authority.pem"
    for blob in issued.cert_chain_pems:
        blob.write_to_path(paths[0], append=True)
    issued.private_key_pem.write_to_path(paths[1])
    authority.cert_pem.write_to_path(paths[2])
    return paths
