"""Datagrams in a file that tshark reads."""

from __future__ import annotations

import csv
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.support.tools import need

_RAW_IP = 101  # LINKTYPE_RAW of the pcap format


class Packet(NamedTuple):
    """A datagram. at: monotonic seconds. sender, receiver: UDP ports."""

    at: float
    sender: int
    receiver: int
    data: bytes


@dataclass
class PacketCapture:
    """The datagrams that a UDP link has got, also those that it then lost."""

    packets: list[Packet] = field(default_factory=list)

    def add(self, now: float, sender: int, receiver: int, data: bytes) -> None:
        self.packets.append(Packet(now, sender, receiver, data))

    def write(self, path: Path) -> None:
        """Writes a pcap file of UDP over IPv4 on the loopback address."""
        with path.open("wb") as out:
            out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, _RAW_IP))
            for at, sender, receiver, data in self.packets:
                udp = struct.pack(">HHHH", sender, receiver, 8 + len(data), 0) + data
                ip = struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, 0x7F000001, 0x7F000001)
                size = len(ip) + len(udp)
                out.write(struct.pack("<IIII", int(at), int(at % 1 * 1e6), size, size) + ip + udp)


def dissected(path: Path, port: int, protocol: str, fields: Iterable[str]) -> list[dict[str, str]]:
    """Returns fields of each packet of a pcap file, as tshark's dissector of `protocol` reads them. port: UDP."""
    need("tshark")
    names = list(fields)
    command = ["tshark", "-n", "-r", str(path), "-d", f"udp.port=={port},{protocol}", "-T", "fields"]
    command += ["-E", "separator=;", "-E", "occurrence=a", "-E", "aggregator=|"]
    for name in names:
        command += ["-e", name]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [dict(zip(names, row, strict=True)) for row in csv.reader(told.splitlines(), delimiter=";")]
