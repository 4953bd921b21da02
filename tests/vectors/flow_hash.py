#!/usr/bin/env python3
"""An implementation of the pinning hash apart from the product's, written from the specification in src/flow/hash.rs.

Prints the vectors of flow_hash.tsv; `--doc` prints those of the module's documentation. No randomness, no library.
"""
import ipaddress
import struct
import sys

MASK = (1 << 64) - 1
SEED = "correct horse battery staple"


def rotate(x, b):
    return ((x << b) | (x >> (64 - b))) & MASK


def siphash(key, data, compression, finalization, wide):
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    if wide:
        v[1] ^= 0xEE

    def rounds(n):
        for _ in range(n):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = rotate(v[1], 13) ^ v[0]
            v[0] = rotate(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = rotate(v[1], 17) ^ v[2]
            v[2] = rotate(v[2], 32)

    tail = len(data) % 8
    for (word,) in struct.iter_unpack("<Q", data[: len(data) - tail]):
        v[3] ^= word
        rounds(compression)
        v[0] ^= word
    last = int.from_bytes(data[len(data) - tail :], "little") | (len(data) & 0xFF) << 56
    v[3] ^= last
    rounds(compression)
    v[0] ^= last
    v[2] ^= 0xEE if wide else 0xFF
    rounds(finalization)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    if not wide:
        return first
    v[1] ^= 0xDD
    rounds(finalization)
    return struct.pack("<QQ", first, v[0] ^ v[1] ^ v[2] ^ v[3])


# The first vectors of the reference implementation (key 00..0f, input 00..0e).
assert siphash(bytes(range(16)), bytes(range(15)), 2, 4, False) == 0xA129CA6149BE45E5
assert siphash(bytes(range(16)), b"", 2, 4, True).hex() == "a3817f04ba25a8e66df67214c7550293"


def path_key(seed):
    return siphash(b"fwlb-pinning-key", seed.encode(), 2, 4, True)


def flow_hash(seed, mode, protocol, source, source_port, destination, destination_port):
    def end(address, port):
        return ipaddress.ip_address(address).packed + struct.pack(">H", port)

    family = ipaddress.ip_address(source).version
    if mode in ("source", "destination"):
        body = bytes([1, family, 0]) + end(source if mode == "source" else destination, 0)
    else:
        if mode != "5-tuple":
            source_port = destination_port = 0
        if mode == "addresses":
            protocol = 0
        low, high = sorted([end(source, source_port), end(destination, destination_port)])
        body = bytes([1, family, protocol]) + low + high
    return siphash(path_key(seed), body, 1, 3, False)


def member_hash(seed, flow, name):
    return siphash(path_key(seed), struct.pack(">Q", flow) + name.encode(), 1, 3, False)


def cases():
    modes = ["5-tuple", "3-tuple", "addresses", "source", "destination"]
    flows = [
        (6, "198.51.100.7", 40000, "203.0.113.80", 443),
        (6, "203.0.113.80", 443, "198.51.100.7", 40000),
        (17, "10.0.0.1", 53, "10.0.0.1", 53),
        (1, "192.0.2.1", 4660, "192.0.2.2", 4660),
        (50, "255.255.255.254", 0, "0.0.0.1", 0),
        (6, "2001:db8::7", 40000, "2001:db8:80::80", 443),
        (6, "2001:db8:80::80", 443, "2001:db8::7", 40000),
        (58, "fe80::1", 1, "2001:db8::1", 1),
        (17, "::ffff:10.0.0.1", 65535, "::1", 0),
    ]
    for mode in modes:
        for flow in flows:
            yield SEED, mode, *flow, "fw1"
    for seed in ["", "a", "2bytes-of-\u00fc", "x" * 300]:
        for name in ["fw1", "fw2", "a-rather-long-name-for-a-firewall"]:
            yield seed, "5-tuple", *flows[0], name
    for port in range(7):
        yield SEED, "5-tuple", 17, "10.1.2.3", 1024 + port, "10.3.2.1", 53, "fw%d" % port


def main():
    if "--doc" in sys.argv:
        print("path key", path_key(SEED).hex())
        for mode in ["5-tuple", "3-tuple", "addresses", "source", "destination"]:
            for flow in [(6, "198.51.100.7", 40000, "203.0.113.80", 443), (17, "2001:db8::7", 53, "2001:db8:80::80", 5353)]:
                value = flow_hash(SEED, mode, *flow)
                protocol, source, source_port, destination, destination_port = flow
                print(f"//! | `{mode}` | {protocol} | {source} | {source_port} | {destination} | {destination_port} "
                      f"| `{value:016x}` | `{member_hash(SEED, value, 'fw1'):016x}` |")
        return
    print("seed\tmode\tprotocol\tsource\tsource_port\tdestination\tdestination_port\tflow_hash\tmember\tmember_hash")
    for seed, mode, protocol, source, source_port, destination, destination_port, name in cases():
        value = flow_hash(seed, mode, protocol, source, source_port, destination, destination_port)
        member = member_hash(seed, value, name)
        print(seed, mode, protocol, source, source_port, destination, destination_port, f"{value:016x}", name,
              f"{member:016x}", sep="\t")


if __name__ == "__main__":
    main()
