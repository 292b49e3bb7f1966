from itertools import product

from trainables.seeding import derive_seed


def test_seed_is_the_same_on_every_machine():
    assert derive_seed(0, "trial", 17) == 1770403279


def test_seeds_of_different_parts_differ():
    parts = list(product(range(10), ("weights", "epoch", "trial"), range(20)))
    assert len({derive_seed(*part) for part in parts}) == len(parts)


def test_order_of_parts_matters():
    assert derive_seed(1, "a", 2) != derive_seed(2, "a", 1)


def test_seed_fits_every_generator():
    assert all(0 <= derive_seed("x", number) < 2**31 for number in range(2000))
