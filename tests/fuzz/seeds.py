#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets: small frames of every kind, made apart from the product's own builders."""
import pathlib
import struct

HERE = pathlib.Path(__file__).parent / "seeds"
CLIENT4, SERVER4 = bytes([198, 51, 100, 7]), bytes([203, 0, 113, 80])
CLIENT6 = bytes.fromhex("20010db8000100000000000000000007")
SERVER6 = bytes.fromhex("20010db8011300000000000000000080")


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(ethertype, payload):
    return bytes.fromhex("02ee00000100" "02aa00000001") + struct.pack(">H", ethertype) + payload


def ipv4(protocol, payload, source=CLIENT4, destination=SERVER4, field=0, options=b"", ttl=64, ident=0x1234):
    length = 20 + len(options)
    header = struct.pack(">BBHHHBBH", 0x40 | length // 4, 0, length + len(payload), ident, field, ttl, protocol, 0)
    header += source + destination + options
    header = header[:10] + struct.pack(">H", checksum(header)) + header[12:]
    return ethernet(0x0800, header + payload)


def ipv6(protocol, payload, source=CLIENT6, destination=SERVER6, hops=64):
    return ethernet(0x86DD, struct.pack(">IHBB", 6 << 28, len(payload), protocol, hops) + source + destination + payload)


def udp(payload=b"question", source=40000, destination=53, length=None):
    return struct.pack(">HHHH", source, destination, length or 8 + len(payload), 0) + payload


def tcp(flags, payload=b"", source=40000, destination=443, sequence=7, acknowledgement=9):
    return struct.pack(">HHIIBBHHH", source, destination, sequence, acknowledgement, 0x50, flags, 65535, 0, 0) + payload


def icmp(kind, body, code=0):
    message = struct.pack(">BBH", kind, code, 0) + body
    return message[:2] + struct.pack(">H", checksum(message)) + message[4:]


def icmpv6(kind, body, source=CLIENT6, destination=SERVER6, code=0):
    message = struct.pack(">BBH", kind, code, 0) + body
    pseudo = source + destination + struct.pack(">IxxxB", len(message), 58)
    return message[:2] + struct.pack(">H", checksum(pseudo + message)) + message[4:]


def extension(following, length=0):
    return struct.pack(">BBBB", following, length, 1, 4) + bytes(4 + 8 * length)


def fragment6(following, offset, more, ident=0x5678):
    return struct.pack(">BBHI", following, 0, offset | more, ident)


ECHO = struct.pack(">HH", 0x1234, 1) + b"ping"
FRAMES = {
    "arp": ethernet(0x0806, bytes.fromhex("0001080006040001") + bytes(20)),
    "llc": ethernet(38, bytes(38)),
    "udp4": ipv4(17, udp()),
    "udp4-padded": ipv4(17, udp(b"")) + b"\xee" * 18,
    "tcp4-syn": ipv4(6, tcp(0x02)),
    "tcp4-data-df": ipv4(6, tcp(0x18, b"GET /"), field=0x4000),
    "tcp4-options": ipv4(6, tcp(0x02), options=bytes([148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0])),
    "echo4": ipv4(1, icmp(8, ECHO)),
    "error4": ipv4(1, icmp(3, bytes(4) + ipv4(17, udp(), SERVER4, CLIENT4)[14:], 4)),
    "first4": ipv4(17, udp(bytes(56), length=1000), field=0x2000),
    "later4": ipv4(17, bytes(33), field=8),
    "sctp4": ipv4(132, bytes.fromhex("9c400050") + bytes(12)),
    "esp4": ipv4(50, bytes(20)),
    "udp6": ipv6(17, udp()),
    "tcp6-syn": ipv6(6, tcp(0x02)),
    "echo6": ipv6(58, icmpv6(128, ECHO)),
    "error6": ipv6(58, icmpv6(2, bytes(4) + ipv6(0, extension(17) + udp(), SERVER6, CLIENT6)[14:])),
    "chain6": ipv6(0, extension(60) + extension(43, 1) + extension(44) + fragment6(17, 0, 0) + udp()),
    "first6": ipv6(44, fragment6(6, 0, 1) + tcp(0x18, bytes(12))),
    "later6": ipv6(0, extension(44) + fragment6(60, 1480, 0) + bytes(21)),
    "bad-source-route": ipv4(17, udp(), options=bytes([131, 7, 4, 10, 0, 0, 1, 0])),
    "bad-rh0": ipv6(43, struct.pack(">BBBB", 17, 0, 0, 1) + bytes(4) + udp()),
    "bad-tiny": ipv4(6, bytes(16), field=1),
    "bad-total-length": ipv4(17, udp())[:-3],
}

DEVICE, HEAL, OTHER, PARTIAL, GSO, TAGGED, EXPIRE, DOWN = (1 << bit for bit in range(8))


def record(frame, flags=HEAL, pause=0):
    return struct.pack("<BBH", flags, pause, len(frame)) + frame


def reply4(protocol, payload, **more):
    return ipv4(protocol, payload, SERVER4, CLIENT4, **more)


FROM_FW = HEAL | DEVICE
SYN_ACK = tcp(0x12, source=443, destination=40000)
BIG = [ipv4(17, udp(bytes(1472), length=3008), field=0x2000), ipv4(17, bytes(1480), field=0x2000 | 185),
       ipv4(17, bytes(48), field=370)]
SEQUENCES = {
    "handshake4": (0, [record(ipv4(6, tcp(0x02))), record(reply4(6, SYN_ACK), FROM_FW), record(ipv4(6, tcp(0x10))),
                       record(ipv4(6, tcp(0x11))), record(reply4(6, SYN_ACK), FROM_FW | EXPIRE, 200)]),
    "handshake6": (1, [record(ipv6(6, tcp(0x02)), HEAL), record(ipv6(6, SYN_ACK, SERVER6, CLIENT6), FROM_FW)]),
    "learned": (0, [record(reply4(17, udp()), FROM_FW | OTHER), record(ipv4(17, udp(source=53, destination=40000)))]),
    "failover": (4, [record(ipv4(6, tcp(0x02))), record(reply4(6, SYN_ACK), FROM_FW), record(ipv4(6, tcp(0x10))),
                     record(ipv4(6, tcp(0x18, b"x")), HEAL | DOWN), record(ipv4(6, tcp(0x10)), HEAL | EXPIRE, 10)]),
    "flood": (0, [record(ipv4(6, tcp(0x02, source=1000 + port))) for port in range(12)]),
    "fragments": (0, [record(frame) for frame in BIG]),
    "fragments-reversed": (0, [record(frame) for frame in reversed(BIG)]),
    "fragments-overlap": (0, [record(BIG[0]), record(ipv4(17, bytes(64), field=0x2000 | 8)), record(BIG[1])]),
    "fragments-given-up": (0, [record(BIG[1]), record(BIG[2]), record(ipv4(17, udp()), HEAL | EXPIRE, 30)]),
    "fragments6": (0, [record(ipv6(44, fragment6(17, 8, 0) + bytes(40))),
                       record(ipv6(44, fragment6(17, 0, 1) + udp(b"", length=56)))]),
    "small-mtu": (2, [record(ipv4(17, udp(bytes(1200)))), record(ipv4(17, udp(bytes(1200)), field=0x4000)),
                      record(ipv6(17, udp(bytes(1200)))), record(ipv4(17, udp(bytes(1200))), HEAL | PARTIAL)]),
    "super-frame": (2, [record(ipv4(6, tcp(0x18, bytes(2800))), HEAL | GSO | PARTIAL)]),
    "icmp": (0, [record(ipv4(1, icmp(8, ECHO))), record(reply4(1, icmp(0, ECHO)), FROM_FW),
                 record(ipv4(17, udp(source=53, destination=40000))),
                 record(reply4(1, icmp(3, bytes(4) + ipv4(17, udp())[14:], 3)), FROM_FW)]),
    "icmp6": (0, [record(ipv6(58, icmpv6(128, ECHO))), record(ipv6(17, udp())),
                  record(ipv6(58, icmpv6(1, bytes(4) + ipv6(17, udp())[14:], SERVER6, CLIENT6), SERVER6, CLIENT6), FROM_FW)]),
    "local": (0, [record(ipv4(1, icmp(8, ECHO), destination=bytes([198, 51, 100, 1]))),
                  record(ethernet(0x0806, bytes(28))), record(ipv4(17, udp(), destination=bytes([198, 51, 100, 255])))]),
    "no-punts": (8, [record(ethernet(0x0806, bytes(28))), record(ipv4(17, udp(), ttl=1))]),
    "refused": (0, [record(ipv4(17, udp(), ttl=1)), record(ipv4(17, udp(), source=SERVER4)), record(FRAMES["llc"]),
                    record(ipv4(17, udp(), destination=bytes([224, 0, 0, 18]))), record(ipv4(17, udp()), HEAL | TAGGED),
                    record(ipv4(17, udp()), HEAL | TAGGED | OTHER), record(ipv4(17, udp()), DEVICE), record(b"short")]),
    "hairpin": (0, [record(ipv4(17, udp(), destination=bytes([192, 0, 2, 1])))]),
}


# Worlds with a service, on the outer engine and on the inner one: a connection, the end of one, what is cut, what is not yet
# segmented, errors from inside the tunnel, a server that dies.
OWN4 = bytes([203, 0, 113, 1])
OWN6 = bytes.fromhex("20010db8011300000000000000000001")
S4 = [bytes([203, 0, 113, 10 + number]) for number in range(2)]
S6 = [bytes.fromhex("20010db80113000000000000000000") + bytes([16 + number]) for number in range(2)]
TUNNELLED4 = ipv4(4, ipv4(17, udp(), ttl=63)[14:], OWN4, S4[0], field=0x4000)[14:]
TUNNELLED6 = ipv6(41, ipv6(17, udp(), hops=63)[14:], OWN6, S6[0])[14:]
CROSSED = ipv6(4, ipv4(17, udp(), ttl=63)[14:], OWN6, S6[0])[14:]
SERVED = [
    record(ipv4(6, tcp(0x02))), record(ipv4(6, tcp(0x10))), record(ipv4(6, tcp(0x18, bytes(2800))), HEAL | GSO | PARTIAL),
    record(ipv4(6, tcp(0x11))), record(ipv4(6, tcp(0x02, source=40001))), record(ipv6(6, tcp(0x02))),
    record(ipv6(6, tcp(0x18, bytes(2800))), HEAL | GSO | PARTIAL), record(ipv4(17, udp())), record(ipv6(17, udp())),
    record(ipv4(17, udp(bytes(2800))), HEAL | GSO | PARTIAL), record(ipv4(17, udp(bytes(1472)), field=0x4000)),
    record(ipv4(17, udp(bytes(1472))))]
SERVED += [record(frame) for frame in BIG] + [
    record(ipv4(1, icmp(3, bytes(2) + struct.pack(">H", 1400) + TUNNELLED4, 4), S4[0], OWN4), HEAL | DEVICE),
    record(ipv4(1, icmp(11, bytes(4) + TUNNELLED4), S4[0], OWN4), HEAL | DEVICE),
    record(ipv6(58, icmpv6(2, struct.pack(">I", 1280) + TUNNELLED6, S6[0], OWN6), S6[0], OWN6), HEAL | DEVICE),
    record(ipv6(58, icmpv6(1, bytes(4) + CROSSED, S6[0], OWN6), S6[0], OWN6), HEAL | DEVICE),
    record(ipv4(6, SYN_ACK, S4[0], CLIENT4), HEAL | DEVICE), record(ipv4(17, udp(source=53, destination=40000), S4[1], CLIENT4),
                                                                    HEAL | DEVICE),
    record(ipv4(6, tcp(0x10, source=40001)), HEAL | DOWN), record(ipv4(6, tcp(0x02)), HEAL | EXPIRE, 255)]
for mode, name in enumerate(["nat", "full-nat", "direct", "tunnel", "tunnel-crossed"], 1):
    SEQUENCES[f"service-{name}"] = (mode << 4 | 1, SERVED)
    SEQUENCES[f"service-{name}-small-mtu"] = (mode << 4 | 3, SERVED)


def text(value):
    return bytes([len(value)]) + value


def told(name, verdict=1, admin=0):
    return struct.pack(">QBB", name, verdict, admin)


def probe(firewalls, cluster=None, notes=b"", names=(b"inner-a", b"0.1.0", b"perimeter"), version=None):
    """The payload of a path probe, whose authentication is left to whoever knows the seed."""
    version = version or (1 if cluster is None else 2)
    body = struct.pack(">QQQQ", 7, 1 << 40, 9, 11) + b"".join(text(name) for name in names)
    body += bytes([len(firewalls)]) + b"".join(firewalls) + (cluster or b"") + notes
    return b"fwlb" + bytes([version]) + bytes(8) + body


def cluster(role, nodes=(), count=None):
    heard = b"".join(struct.pack(">QBIBH", name, of, term, 190, 12) for name, of, term in nodes)
    return struct.pack(">BIBBB", role, 7, 200, 61, len(nodes) if count is None else count) + heard


NOTE = bytes([1]) + struct.pack(">QQ", 1, 1_795_258_800) + text(b"root (uid 0)") + text(b"new firmware")
NODES = [(1, 2, 6), (2, 3, 7), (3, 4, 5), (4, 0, 0)]
PROBES = {
    "alone": probe([told(1), told(2, 2, 1)]),
    "alone-notes": probe([told(1, 0, 2)], notes=NOTE),
    "no-firewalls": probe([]),
    "full": probe([told(number) for number in range(64)], cluster(3, NODES), NOTE, [b"n" * 63] * 3),
    "active": probe([told(1), told(2)], cluster(3, NODES[:1])),
    "standby": probe([told(1)], cluster(2)),
    "leaving-notes": probe([told(1, 1, 1)], cluster(4, NODES), NOTE),
    "bad-role": probe([told(1)], cluster(5)),
    "bad-node-role": probe([told(1)], cluster(3, [(1, 5, 1)])),
    "bad-nodes": probe([told(1)], cluster(3, NODES + NODES[:1])),
    "bad-count": probe([told(1)], cluster(3, NODES[:1], 2)),
    "bad-format": probe([told(1)], version=3),
    "bad-cluster-in-format-1": probe([told(1)], cluster(3, NODES[:2]), version=1),
    "bad-text": probe([told(1)], names=(b"\xff\xfe", b"0.1.0", b"perimeter")),
}


def write(target, seeds):
    directory = HERE / target
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    for name, data in seeds.items():
        (directory / name).write_bytes(data)


write("frame_parse", {name: b"\0" + frame for name, frame in FRAMES.items()})
write("forwarder_process", {name: bytes([world]) + b"".join(records) for name, (world, records) in SEQUENCES.items()})
write("probe_decode", PROBES)
