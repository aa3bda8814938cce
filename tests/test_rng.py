"""Seeds follow from names."""

from burnish.rng import seed_for


def test_names_decide_and_order_matters() -> None:
    assert seed_for(0, "a", 1) == seed_for(0, "a", 1)
    assert len({seed_for(0, "a", 1), seed_for(0, 1, "a"), seed_for(1, "a", 1), seed_for(0, "a1")}) == 4
    assert 0 <= seed_for(0) < 2**63


def test_the_value_is_the_same_on_every_machine() -> None:
    # hashlib.blake2b(b"0\x1fx", digest_size=8), little endian, shifted right by one
    assert seed_for(0, "x") == 4755882605482474953
