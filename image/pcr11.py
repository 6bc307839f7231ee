"""Says what PCR 11 will hold (SHA-256) when the image of a UKI opens its disk: pcr11.py TREE UKI

That is after the initrd and before anything else, so that no later phase can open it. The
calculation is systemd-measure's; here the UKI (a PE file) is only taken apart.
"""
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

MEASURED = ["linux", "osrel", "cmdline", "initrd", "ucode", "splash", "dtb", "uname", "sbat",
            "pcrpkey"]
PHASE = "enter-initrd:leave-initrd"


def sections(path):
    """Sections of a PE file, name to content."""
    image = path.read_bytes()
    header = struct.unpack_from("<I", image, 0x3C)[0]
    if image[header:header + 4] != b"PE\0\0":
        sys.exit(f"{path} is no PE file")
    count, optional = (struct.unpack_from("<H", image, header + at)[0] for at in (6, 20))
    found = {}
    for i in range(count):
        at = header + 24 + optional + 40 * i
        name = image[at:at + 8].rstrip(b"\0").decode()
        size, _, _, offset = struct.unpack_from("<IIII", image, at + 8)
        found[name] = image[offset:offset + size]
    return found


def main():
    tree, uki = sys.argv[1], Path(sys.argv[2])
    found = sections(uki)
    in_tools = Path(__file__).with_name("in-tools")
    with tempfile.TemporaryDirectory() as folder:
        arguments = []
        for name in MEASURED:
            if f".{name}" in found:
                part = Path(folder) / name
                part.write_bytes(found[f".{name}"])
                arguments.append(f"--{name}={part}")
        said = subprocess.run(
            [in_tools, tree, folder, "/usr/lib/systemd/systemd-measure", "calculate", *arguments,
             "--bank=sha256", f"--phase={PHASE}", "--json=short"], check=True, capture_output=True)
    print(json.loads(said.stdout)["sha256"][0]["hash"])


main()
