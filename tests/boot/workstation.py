"""Owns the people outside the box: operators with their program, an OpenAI client, and who seals
content. Everything goes through what real people have: the network and sticks.
"""
import hashlib
import json
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from machine import Failed

PASSPHRASE = "four words nobody said"
STICK_MIB = 64
CALL_TIMEOUT_S = 120


def run(*arguments, ok=True, **options):
    """A program's output; `ok` is whether it must succeed."""
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True,
                          timeout=CALL_TIMEOUT_S, **options)
    if (done.returncode == 0) != ok:
        raise Failed(f"{arguments}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class Workstation:
    """Two operators, anna and boris, at a workstation with a folder of its own."""

    def __init__(self, folder, programs, port):
        self.folder, self.programs, self.port = Path(folder), Path(programs), port
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        secret = self.folder / "passphrase"
        secret.write_text(PASSPHRASE)
        secret.chmod(0o600)

    def operator(self, *arguments, ok=True):
        return run(self.programs / "redoubt-operator", *arguments, ok=ok, cwd=self.folder)

    def by(self, person, *arguments, ok=True):
        own = ["--key", f"{person}.key", "--passphrase-file", "passphrase", "--boxes", "boxes.json"]
        return self.operator(*arguments, *own, ok=ok)

    def make_keys(self):
        """Keys for both; what site.toml says of them."""
        lines = []
        for person in ("anna", "boris"):
            said = self.operator("key", "create", person, "--out", f"{person}.key",
                                 "--passphrase-file", "passphrase")
            shown = re.search(r"Public key:\s+(\S+)", said)
            lines.append(f"[[operators]]\nname = '{person}'\npublic_key = '{shown.group(1)}'\n")
        return "".join(lines)

    def enrol(self, fingerprint, codes):
        self.fingerprint = fingerprint
        certificate(self.port, fingerprint, self.folder / "box.pem")
        for person, code in zip(("anna", "boris"), codes):
            self.operator("enrol", "--key", f"{person}.key", "--code", code, "--server",
                          f"https://127.0.0.1:{self.port}", "--fingerprint", fingerprint,
                          "--boxes", "boxes.json")

    def agree(self, *what):
        """Both do something that takes two."""
        proposed = self.by("anna", *what)
        proposal = proposed.split("proposals confirm ")[1].split()[0]
        return self.by("boris", "proposals", "confirm", proposal, "--yes")

    def make_api_key(self):
        said = self.by("anna", "keys", "create", "--tenant", "team-a")
        self.key = re.search(r"\brdt-[-0-9a-z]+", said).group(0)

    def ask(self, python, model, prompt):
        """The answer that an unmodified OpenAI client gets."""
        client = Path(__file__).parent / "client.py"
        return run(python, client, f"https://127.0.0.1:{self.port}/v1",
                   self.folder / "box.pem", self.key, model, prompt).strip()

    def log(self):
        """The audit log."""
        out = self.folder / "log.json"
        out.unlink(missing_ok=True)
        self.by("anna", "audit", "--out", "log.json")
        return out.read_text()

    def status(self):
        return self.by("anna", "status")

    def site(self):
        """The box's name."""
        return self.described()["site"]

    def described(self):
        """Who the box says that it is."""
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}/v1/operator/site")
        verified = ssl.create_default_context(cafile=self.folder / "box.pem")
        verified.check_hostname = False
        with urllib.request.urlopen(request, timeout=CALL_TIMEOUT_S, context=verified) as answer:
            return json.load(answer)

    def forget(self):
        """What is known of the box: it is another one."""
        (self.folder / "boxes.json").unlink()


def is_ready(port):
    """Whether the box says that it is ready to answer."""
    try:
        request = urllib.request.Request(f"https://127.0.0.1:{port}/health/ready")
        # Whose answer it is shows elsewhere.
        unverified = ssl._create_unverified_context()
        with urllib.request.urlopen(request, timeout=5, context=unverified) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def certificate(port, fingerprint, path):
    """The box's certificate, which must have this fingerprint, in a file."""
    pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=CALL_TIMEOUT_S)
    found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    if found != fingerprint:
        raise Failed(f"the screen says {fingerprint}, the box has {found}")
    path.write_text(pem)
    return path


def digest(image):
    """SHA-256 of a file, such as all that a stick has."""
    with open(image, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_stick(tools, image, files, size_mib=STICK_MIB, partitioned=True):
    """A stick in a file: FAT32 with these files and folders, in a partition as they are sold, or
    on the whole of it as some programs make them."""
    image.unlink(missing_ok=True)
    with open(image, "wb") as file:
        file.truncate(size_mib << 20)
    at = str(image)
    if partitioned:
        tools.run("sfdisk", "--quiet", image, input="start=2048, type=c\n")
        at += "@@1M"
    tools.run("mformat", "-F", "-v", "STICK", "-i", at, "::")
    for path in files:
        tools.run("mcopy", "-s", "-i", at, path, "::")
    return image


def read_stick(tools, image, name, folder):
    """What a folder of a partitioned stick has, in a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tools.run("mcopy", "-s", "-n", "-i", f"{image}@@1M", f"::{name}", f"{folder}/")
    return folder / name
