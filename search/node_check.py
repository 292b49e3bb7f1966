"""What is compared on every node before trials go there. Sent to the nodes as it stands here: it may not rely
on the project being there.
"""

from __future__ import annotations

from typing import Any


def look(folder: str, word: str) -> dict[str, Any]:
    """Versions and code of this node, and what is wrong with the storage `folder`, or None.

    `folder` is the address of an object store, or a path: then the driver has made a file there that is
    named after `word`.
    """
    import os
    import platform
    from importlib import metadata
    from pathlib import Path

    found: dict[str, Any] = {"python": platform.python_version(), "storage": None}
    for name in ("ray", "torch"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    try:
        from trainables.checkpoint import code_hash

        found["code"] = code_hash()
    except Exception as error:  # whatever keeps it from being imported
        found["code"] = f"none ({error!r:.200})"
    if "://" in folder:
        try:
            from trainables.place import check_place

            check_place(folder)
        except Exception as error:  # also where it cannot be imported
            found["storage"] = str(error)
        return found
    shared = Path(folder) / f".shared-{word}"
    try:
        shared.stat()
        written = shared.with_name(f"{shared.name}-{platform.node()}-{os.getpid()}")
        written.touch()
        written.unlink()
    except FileNotFoundError:
        found["storage"] = "it is another folder there, or none"
    except OSError as error:
        found["storage"] = error.strerror or repr(error)
    return found
