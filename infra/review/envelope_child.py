"""The child process that seals one list to an OpenPGP certificate. Not imported: run by
:mod:`infra.review.envelope`.

Standard input: the certificate, base64, on the first line; then the content. Standard output: the sealed message.
Nothing is said on standard error, where the library would print what it choked on.
"""

from __future__ import annotations

import base64
import os
import resource
import sys


def main() -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    certificate = base64.b64decode(sys.stdin.buffer.readline())
    content = sys.stdin.buffer.read()
    import pysequoia

    try:
        recipient = pysequoia.Cert.from_bytes(certificate)
        if recipient.is_revoked:
            return 4
        sealed = pysequoia.encrypt(content, recipients=[recipient], armor=False)
    except BaseException:  # panics of the library are no Exception
        return 3
    sys.stdout.buffer.write(sealed)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    os._exit(main())
