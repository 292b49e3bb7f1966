"""Seeds from names, so that no generator's state has to be saved."""

from hashlib import blake2b


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2**31) that the same parts give on every machine, and other parts practically never."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") >> 1
