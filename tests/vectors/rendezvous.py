#!/usr/bin/env python3
"""An implementation of weighted rendezvous apart from the product's, written from the documentation of
src/path/rendezvous.rs: with a true logarithm and exact fractions. Prints the vectors of rendezvous.tsv.
"""
from decimal import Decimal, getcontext
from fractions import Fraction
from math import ceil

from flow_hash import SEED, flow_hash, path_key, siphash

getcontext().prec = 60

# Name, weight, spare.
GROUPS = {
    "equal": [("fw1", 1, False), ("fw2", 1, False), ("fw3", 1, False)],
    "weighted": [("fw1", 1, False), ("fw2", 2, False), ("fw3", 3, False), ("fw4", 256, False)],
    "spares": [("fw1", 1, False), ("fw2", 1, False), ("fw3", 2, True), ("fw4", 1, True)],
}


def neg_log2(h):
    return ceil(-(Decimal(max(h, 1)) / 2**64).ln() / Decimal(2).ln() * 2**32)


def ranked(members, flow):
    def rank(member):
        name, weight, spare = member
        h = siphash(path_key(SEED), flow.to_bytes(8, "big") + name.encode(), 1, 3, False)
        return (spare, Fraction(neg_log2(h), weight), -h, name), (weight << 55) // neg_log2(h)

    return [(member[0], score) for (_, score), member in sorted((rank(m), m) for m in members)]


def select(members, live, flow):
    order = [name for name, _ in ranked(members, flow)]
    spare = {name for name, _, is_spare in members if is_spare}
    primaries = [name for name in order if name not in spare]
    candidates = primaries[:1] + [name for name in order if name in spare] + primaries if spare else order
    return next((name for name in candidates if name in live), "-")


print("group\tflow_hash\tranked\tselected_of_all\twithout_the_first\twithout_the_primaries")
for group, members in GROUPS.items():
    for i in range(16):
        flow = flow_hash(SEED, "5-tuple", 6, "198.51.100.7", 40000 + i, "203.0.113.80", 443)
        order = ranked(members, flow)
        names = [name for name, _ in order]
        spares = [name for name, _, is_spare in members if is_spare]
        selected = [select(members, live, flow) for live in (names, names[1:], spares)]
        print(group, f"{flow:016x}", " ".join(f"{n}:{s}" for n, s in order), *selected, sep="\t")
