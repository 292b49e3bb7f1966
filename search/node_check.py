"""What is compared on every node before trials go there. Sent to the nodes as it stands here: it may not rely
on the project being there.
"""

from __future__ import annotations

from typing import Any


def look(folder: str, word: str) -> dict[str, Any]:
    """Versions and code of this node, and what is wrong with the storage `folder`, or None.

    `folder` is the address of an object store, or a path: then `word` is what the driver wrote into the
    file `.shared` there.
    """
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
    place = Path(folder)
    try:
        if (place / ".shared").read_text(encoding="utf-8") != word:
            found["storage"] = "it is another folder there"
        written = place / f".shared-{platform.node()}"
        written.write_text(word, encoding="utf-8")
        written.unlink()
    except OSError as error:
        found["storage"] = error.strerror or repr(error)
    return found
