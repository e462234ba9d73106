"""Containers: what a delivery is wrapped in, and how its files are taken out as streams.

A sender may wrap a file in age or OpenPGP, in a zip or gzip, or in both (a zip inside age). Which it is, the
first bytes tell, never the name. Nothing is ever extracted: each file inside is handed on as a stream of
plaintext, so that no plaintext touches a disk, and a hostile archive can do nothing but be refused.

``for member in open_deliveries(path, identities, openpgp_keys): member.stream.read(...)``
"""

from infra.containers.control_file import Control, parse_control
from infra.containers.limits import Limits
from infra.containers.opening import Member, open_deliveries
from infra.containers.sniffing import Kind, sniff

__all__ = ["Control", "Kind", "Limits", "Member", "open_deliveries", "parse_control", "sniff"]
