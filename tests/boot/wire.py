"""Owns the other end of a machine's network cable: frames in and out, made and read here, without
any system between. Answers ARP for its own address, so that the machine can answer.
"""
import socket
import struct
import time

from machine import free_port

OWN_MAC, OWN_ADDRESS = bytes.fromhex("525500000002"), "10.0.2.2"
OWN_ADDRESS_V6 = "fd00:7::2"
MACHINE_MAC = bytes.fromhex("525400123456")
ARP, IPV4, IPV6, TCP, UDP, ICMPV6 = 0x0806, 0x0800, 0x86DD, 6, 17, 58
# Of ICMPv6 (RFC 4861).
SOLICIT, ADVERTISE = 135, 136
SYN, ACK = 0x02, 0x10
FROM_PORT = 40000
FRAME_BYTES_MAX = 65536
# So many frames at once are taken from the cable without a loss.
BURST = 64


def checksum(data):
    """Of the Internet protocols (RFC 1071)."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(to, protocol, body):
    """A frame with an IPv4 packet; `body` has its checksum at zero."""
    source, target = socket.inet_aton(OWN_ADDRESS), socket.inet_aton(to)
    sum_ = checksum(source + target + struct.pack(">BBH", 0, protocol, len(body)) + body)
    at = 16 if protocol == TCP else 6
    body = body[:at] + struct.pack(">H", sum_) + body[at + 2:]
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0)
    head += source + target
    head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
    return MACHINE_MAC + OWN_MAC + struct.pack(">H", IPV4) + head + body


def syn(to, port):
    return packet(to, TCP, struct.pack(">HHIIBBHHH", FROM_PORT, port, port, 0, 5 << 4, SYN, 1024,
                                       0, 0))


def datagram(to, port):
    return packet(to, UDP, struct.pack(">HHHH", FROM_PORT, port, 12, 0) + b"none")


def solicit(to):
    """Asks who has an IPv6 address, as whoever wants to talk to it does."""
    source, target = (socket.inet_pton(socket.AF_INET6, one) for one in (OWN_ADDRESS_V6, to))
    body = struct.pack(">BBHI", SOLICIT, 0, 0, 0) + target + b"\1\1" + OWN_MAC
    sum_ = checksum(source + target + struct.pack(">II", len(body), ICMPV6) + body)
    body = body[:2] + struct.pack(">H", sum_) + body[4:]
    head = struct.pack(">IHBB", 6 << 28, len(body), ICMPV6, 255) + source + target
    return MACHINE_MAC + OWN_MAC + struct.pack(">H", IPV6) + head + body


def is_advertised(frame):
    """Whether a frame answers `solicit`."""
    return (struct.unpack_from(">H", frame, 12)[0] == IPV6 and frame[20] == ICMPV6
            and frame[54] == ADVERTISE and frame[:6] == OWN_MAC)


class Wire:
    """One cable. Every frame that the machine sends is kept in `heard`."""

    def __init__(self):
        here, there = free_port(), free_port()
        self.link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self.link.bind(("127.0.0.1", here))
        self.there = ("127.0.0.1", there)
        self.heard = []
        address = "{0}.type=inet,{0}.host=127.0.0.1,{0}.port={1}".format
        self.network = f"dgram,id=net,{address('local', there)},{address('remote', here)}"

    def send(self, frame):
        self.link.sendto(frame, self.there)

    def listen(self, seconds):
        """Hears the machine for so long, and answers its questions for our address."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.link.settimeout(left)
            try:
                frame = self.link.recv(FRAME_BYTES_MAX)
            except TimeoutError:
                return
            self.heard.append(frame)
            if struct.unpack_from(">H", frame, 12)[0] == ARP and frame[20:22] == b"\0\1" \
                    and frame[38:42] == socket.inet_aton(OWN_ADDRESS):
                self.send(frame[6:12] + OWN_MAC + frame[12:20] + b"\0\2" + OWN_MAC
                          + frame[38:42] + frame[22:32])

    def scan(self, to, frame_of):
        """Asks every port; the packets that came back: (protocol, source port, TCP flags)."""
        self.heard.clear()
        for port in range(1, 65536):
            self.send(frame_of(to, port))
            if port % BURST == 0:
                self.listen(0.02)
        self.listen(5)
        return sorted({answer for answer in map(answered, self.heard) if answer})


def answered(frame):
    """What an IPv4 frame is an answer of."""
    if struct.unpack_from(">H", frame, 12)[0] != IPV4:
        return None
    protocol, head = frame[23], 14 + 4 * (frame[14] & 15)
    if protocol not in (TCP, UDP):
        return protocol, 0, 0
    port = struct.unpack_from(">H", frame, head)[0]
    return protocol, port, frame[head + 13] if protocol == TCP else 0
