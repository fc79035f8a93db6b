"""Requests that the service makes itself, where somebody else chose the address: guarded.

Https only; names are resolved once and refused unless every address is one of the open internet; the checked
address is the one that is connected to, while the certificate is checked against the name; no redirects;
little time and a short answer. `Outgoing` is the only client for such requests.
"""

from jobs.outgoing.client import Answer, Outgoing
from jobs.outgoing.rules import Rules, Target, host_of

__all__ = ["Answer", "Outgoing", "Rules", "Target", "host_of"]
