"""The ledger's operations, as a server names them."""

import hashlib
import re

from shared.ledger import script

OPERATIONS = re.findall(r"^function op\.(\w+)\(", script.LUA, re.MULTILINE)


def sha_of(op: str, max_lost_leases: int) -> str:
    return hashlib.sha1(script.script_of(op, max_lost_leases).encode(), usedforsecurity=False).hexdigest()
