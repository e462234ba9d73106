"""The child process that opens one OpenPGP message. Not imported: run by :mod:`infra.containers.openpgp`.

The library writes to a file or gives all plaintext at once; here its file is a pipe to the parent, so that
no plaintext touches a disk and memory stays bounded: about 110 MB of its own; the message itself is mapped,
which counts as resident but can be dropped at any time.

Standard input: the keys, base64, one a line. Argument: the number of the inherited descriptor of the message.
Exit code 0 only if the message ended well; nothing is said on standard error, where the library would print
what it choked on.
"""

from __future__ import annotations

import base64
import os
import resource
import sys


def main() -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    keys = [base64.b64decode(line) for line in sys.stdin.buffer.read().split()]
    import pysequoia

    for key in keys:
        try:
            decryptor = pysequoia.Tsk.from_bytes(key).decryptor()
            pysequoia.decrypt_file(f"/dev/fd/{sys.argv[1]}", "/dev/fd/1", decryptor=decryptor)
        except BaseException:  # noqa: S112  (a wrong key fails before its first byte; panics are no Exception)
            continue
        return 0
    return 3


if __name__ == "__main__":
    os._exit(main())
