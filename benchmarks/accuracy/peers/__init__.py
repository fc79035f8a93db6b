"""The methods that people would use instead of ours, each as its users would run it."""

from __future__ import annotations

from importlib.util import find_spec

from benchmarks.accuracy.peers.first_paper import FirstPaper
from benchmarks.accuracy.peers.nncf_peers import NncfMagnitude, NncfRb
from benchmarks.accuracy.peers.peer import Peer, Settings
from benchmarks.accuracy.peers.torch_gradual import TorchGradual

PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (TorchGradual, NncfMagnitude, NncfRb, FirstPaper)}


def missing(name: str) -> str | None:
    """Why the peer cannot run here; None where it can."""
    package = PEERS[name].package
    if package is not None and find_spec(package) is None:
        return f"{package} is not installed: pip install -c constraints.txt -e '.[bench]'"
    return None


__all__ = ["PEERS", "Peer", "Settings", "missing"]
