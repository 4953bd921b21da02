"""Unpacks IP in IP, of either family in either family, onto a device of its own: what `ip link add type ipip` does where
the kernel has it."""

import fcntl
import os
import select
import socket
import struct
import subprocess

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000

device = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", b"decap", IFF_TUN | IFF_NO_PI))
subprocess.run(["ip", "link", "set", "decap", "up"], check=True)

sockets = [
    socket.socket(family, socket.SOCK_RAW, protocol)
    for family in (socket.AF_INET, socket.AF_INET6)
    for protocol in (socket.IPPROTO_IPIP, socket.IPPROTO_IPV6)
]
print("ready", flush=True)
while True:
    for readable in select.select(sockets, [], [])[0]:
        packet = readable.recv(65535)
        # Raw sockets of IPv4 show the header, those of IPv6 do not.
        if readable.family == socket.AF_INET:
            packet = packet[(packet[0] & 15) * 4:]
        try:
            os.write(device, packet)
        except OSError:
            pass
