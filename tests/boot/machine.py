"""Owns one machine under test: QEMU without acceleration, OVMF with Secure Boot, swtpm. It is
started on a disk, watched over its serial console, and spoken to over QMP. Knows nothing of tests.
"""
import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIRMWARE = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"
GUEST_PORT = 443
QMP_TIMEOUT_S = 20
STOP_TIMEOUT_S = 20


class Failed(Exception):
    """What was awaited did not come; the end of the console is in the message."""


class Tools:
    """Programs of the tools tree."""

    def __init__(self, folder, run):
        self.tree, self.run_folder = folder, run

    def command(self, *arguments):
        return [str(ROOT / "image/in-tools"), str(self.tree), str(self.run_folder),
                *map(str, arguments)]

    def run(self, *arguments, **options):
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, **options)
        if done.returncode != 0:
            raise Failed(f"{arguments}: {done.stdout}{done.stderr}")
        return done.stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def plain(path):
    if not path.exists():
        return ""
    text = path.read_bytes().decode(errors="replace")
    return re.sub(r"\x1b\[[0-9;?=]*[a-zA-Z]|\x1b[()][A-Z0-9]|\r", "", text)


class Machine:
    """A machine with a disk, firmware variables and a TPM of its own, in one folder."""

    def __init__(self, tools, folder, disk, memory_mib=2048):
        self.tools, self.folder, self.disk, self.memory_mib = tools, Path(folder), disk, memory_mib
        self.folder.mkdir(parents=True, exist_ok=True)
        self.variables, self.tpm = self.folder / "variables.fd", self.folder / "tpm"
        self.tpm.mkdir(exist_ok=True)
        self.console, self.qmp_path = self.folder / "console", self.folder / "qmp"
        self.screen_path = self.folder / "screen"
        self.process = None
        # A file that takes every write to the disk, in order.
        self.record = None
        self.port = free_port()
        self.boots = 0

    def enrol(self, keys):
        """Fresh firmware variables with the owner's keys, Secure Boot on."""
        copies = self.folder / "keys"
        shutil.copytree(keys, copies, dirs_exist_ok=True)
        guid = (keys / "guid").read_text().strip()
        self.tools.run("virt-fw-vars", "--input", VARIABLES, "--output", self.variables,
                       "--set-pk", guid, copies / "PK.crt", "--add-kek", guid, copies / "KEK.crt",
                       "--add-db", guid, copies / "db.crt", "--sb")
        shutil.rmtree(copies)

    def start(self, *extra, network="user,id=net,restrict=on", reboot=True, port=True):
        """Starts it; a machine that runs is not started twice."""
        assert self.process is None
        for path in (self.console, self.screen_path, self.qmp_path, self.folder / "swtpm"):
            path.unlink(missing_ok=True)
        subprocess.run(self.tools.command(
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.tpm}",
            "--ctrl", f"type=unixio,path={self.folder}/swtpm", "--daemon",
            "--pid", f"file={self.folder}/swtpm.pid"), check=True)
        forward = f",hostfwd=tcp:127.0.0.1:{self.port}-:{GUEST_PORT}" if port else ""
        command = self.tools.command(
            "qemu-system-x86_64", "-machine", "q35,smm=on", "-accel", "tcg,thread=multi",
            "-cpu", "max", "-smp", "2", "-m", self.memory_mib, "-nodefaults", "-display", "none",
            "-vga", "std", "-global", "driver=cfi.pflash01,property=secure,value=on",
            "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE}",
            "-drive", f"if=pflash,unit=1,format=raw,file={self.variables}",
            "-chardev", f"socket,id=tpm,path={self.folder}/swtpm",
            "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0",
            *self.disk_arguments(),
            "-device", "virtio-blk-pci,drive=disk,bootindex=1", "-device", "virtio-rng-pci",
            "-device", "qemu-xhci,id=usb", "-netdev", network + forward,
            "-device", "virtio-net-pci,netdev=net,romfile=",
            "-smbios", "type=1,uuid=2f1b2e2a-7c53-4a11-9f0e-000000000001",
            "-serial", f"file:{self.console}", "-serial", f"file:{self.screen_path}",
            "-qmp", f"unix:{self.qmp_path},server=on,wait=off",
            *([] if reboot else ["-no-reboot"]), *extra)
        self.log = open(self.folder / "qemu.log", "ab")
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.boots += 1

    def disk_arguments(self):
        if self.record is None:
            return ["-drive", f"if=none,id=disk,file={self.disk},format=qcow2,cache=unsafe,"
                    "discard=unmap"]
        disk = {"driver": "qcow2", "discard": "unmap",
                "file": {"driver": "file", "filename": str(self.disk)}}
        log = {"driver": "file", "filename": str(self.record)}
        return ["-blockdev", json.dumps({"driver": "blklogwrites", "node-name": "disk",
                                         "discard": "unmap", "file": disk, "log": log})]

    @property
    def said(self):
        """What the console has said since the start, without control sequences."""
        return plain(self.console)

    def screen_text(self):
        """What stands on the screen in front of the box, as the test image shows it on a second
        serial port."""
        return plain(self.screen_path).split("  Redoubt ")[-1]

    def age_s(self):
        return time.monotonic() - self.began

    def await_(self, what, look, timeout_s):
        """The first true value of `look()`."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            found = look()
            if found:
                return found
            if self.process.poll() is not None:
                found = look()
                if found:
                    return found
                raise Failed(f"{what}: the machine ended.\n{self.tail()}")
            time.sleep(0.5)
        raise Failed(f"{what}: not within {timeout_s} s.\n{self.tail()}")

    def await_text(self, pattern, timeout_s):
        return self.await_(pattern, lambda: re.search(pattern, self.said), timeout_s)

    def tail(self, lines=40):
        return "\n".join(self.said.splitlines()[-lines:])

    def qmp(self, command, **arguments):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(QMP_TIMEOUT_S)
            link.connect(str(self.qmp_path))
            lines = link.makefile("rw")
            lines.readline()
            for name, given in (("qmp_capabilities", {}), (command, arguments)):
                lines.write(json.dumps({"execute": name, "arguments": given}) + "\n")
                lines.flush()
                while True:
                    answer = json.loads(lines.readline())
                    if "return" in answer or "error" in answer:
                        break
            if "error" in answer:
                raise Failed(f"QMP {command}: {answer['error']}")
            return answer["return"]

    def screen(self, path):
        """A picture of tty1, PNG."""
        self.qmp("screendump", filename=str(path), format="png")

    def plug(self, image, name="stick"):
        """Plugs in a USB stick whose content is this file, read and written."""
        self.qmp("blockdev-add", **{"driver": "raw", "node-name": name,
                                    "file": {"driver": "file", "filename": str(image)}})
        self.qmp("device_add", driver="usb-storage", drive=name, id=f"usb-{name}", bus="usb.0",
                 removable=True)

    def unplug(self, name="stick"):
        self.qmp("device_del", id=f"usb-{name}")

    def type(self, text):
        """Types on the machine's keyboard."""
        names = {"\n": "ret", "-": "minus", " ": "spc"}
        for character in text:
            keys = [names.get(character, character.lower())]
            if character.isupper():
                keys.insert(0, "shift")
            self.qmp("send-key", keys=[{"type": "qcode", "data": key} for key in keys])
            time.sleep(0.15)

    def cut_power(self):
        """Ends it at once."""
        if self.process is None:
            return
        try:
            self.qmp("quit")
        except (OSError, Failed, ValueError):
            self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)
        self.process = None
        pid = self.folder / "swtpm.pid"
        if pid.exists():
            try:
                os.kill(int(pid.read_text()), 15)
            except (ProcessLookupError, ValueError):
                pass
        self.log.close()

    def shut_down(self, timeout_s=120):
        """As the power button does it."""
        self.qmp("system_powerdown")
        self.process.wait(timeout_s)
        self.process = None
        self.log.close()
