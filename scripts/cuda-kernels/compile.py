"""Compiles the CUDA kernels with NVRTC, without a GPU, and packs them into one file:

    compile.py --sources FOLDER --cache FOLDER --nvrtc FOLDER --nvrtc-ptx FOLDER --out FILE --table FILE

Every source is compiled for every target. What its sources, its flags and the compiler have not
changed is taken from the cache. The table says what each kernel takes of a multiprocessor.
"""
import argparse
import ctypes
import hashlib
import json
import os
import re
import sys
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

# A cubin runs on its major version's later minor ones: these cover all from 8.0 on.
TARGETS = ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]
# What no cubin is for compiles this at its first start; of an older compiler, for older drivers.
PTX = "compute_80"
FLAGS = ["-std=c++17", "--fmad=false", "--prec-div=true", "--prec-sqrt=true", "--ftz=false"]
MAGIC = "redoubt-kernels 1"


class Nvrtc:
    def __init__(self, folder):
        library = next(folder.glob("lib/python*/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"))
        self.library = ctypes.CDLL(str(library))
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def text(self, program, what):
        size = ctypes.c_size_t()
        getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(self.library, f"nvrtcGet{what}")(program, buffer)
        return buffer.raw

    def compile(self, source, target):
        """(image, log) of a source for a target; fails with the compiler's words."""
        program = ctypes.c_void_p()
        self.library.nvrtcCreateProgram(ctypes.byref(program), source.read_bytes(),
                                        source.name.encode(), 0, None, None)
        flags = [f"--gpu-architecture={target}", f"-I{source.parent}", *FLAGS]
        if target != PTX:
            flags.append("--ptxas-options=-v")
        given = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        failed = self.library.nvrtcCompileProgram(program, len(flags), given)
        log = self.text(program, "ProgramLog").rstrip(b"\0").decode()
        if failed:
            raise SystemExit(f"{source.name} for {target}:\n{log}")
        return self.text(program, "PTX" if target == PTX else "CUBIN"), log


def used(log):
    """{kernel: (registers, bytes spilled)} of a compiler's log."""
    found, kernel, spilled = {}, None, 0
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            kernel = match[1]
        elif match := re.search(r"(\d+) bytes spill stores", line):
            spilled = int(match[1])
        elif (match := re.search(r"Used (\d+) registers", line)) and kernel:
            found[kernel] = (int(match[1]), spilled)
    return found


def compiled(source, target, folder, cache):
    """(image, log) of a source, out of the cache where that has it."""
    compiler = Nvrtc(folder)
    digest = hashlib.sha256(json.dumps([compiler.version, target, FLAGS]).encode())
    for path in [source, *sorted(source.parent.glob("*.cuh"))]:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    kept = cache / f"{source.stem}-{target}-{digest.hexdigest()[:24]}"
    image, log = kept.with_suffix(".image"), kept.with_suffix(".log")
    if not log.exists():
        made, said = compiler.compile(source, target)
        for path, content in [(image, made), (log, said.encode())]:
            part = path.with_suffix(f".part{os.getpid()}")
            part.write_bytes(content)
            part.replace(path)
    return image.read_bytes(), log.read_text()


def pack(images, out):
    """One file: a line for every image, then the images, deflated."""
    lines, data = [], b""
    for (target, source), image in images.items():
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = deflate.compress(image) + deflate.flush()
        lines.append(f"{target} {source} {len(data)} {len(packed)} {len(image)}")
        data += packed
    head = "\n".join([f"{MAGIC} {len(lines)}", *lines, ""])
    whole = head.encode() + data
    # One that is the same stays, so that nothing is built anew.
    if not out.exists() or out.read_bytes() != whole:
        part = out.with_suffix(".part")
        part.write_bytes(whole)
        part.replace(out)
    print(f"{out}: {len(images)} images, {sum(map(len, images.values())):,} bytes, "
          f"{out.stat().st_size:,} packed")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ["sources", "cache", "nvrtc", "nvrtc-ptx", "out", "table"]:
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--check", action="store_true",
                        help="fail where the table is not what the kernels take")
    given = parser.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    sources = sorted(given.sources.glob("*.cu"))
    jobs = [(target, source) for source in sources for target in [*TARGETS, PTX]]
    with ProcessPoolExecutor() as pool:
        running = [pool.submit(compiled, source, target,
                               given.nvrtc_ptx if target == PTX else given.nvrtc, given.cache)
                   for target, source in jobs]
        done = [job.result() for job in running]
    images = {(target, source.stem): image for (target, source), (image, _) in zip(jobs, done)}
    lines = ["# kernel, target, registers of a thread, bytes that it spills; scripts/kernels writes this.",
             ""]
    for (target, _), (_, log) in zip(jobs, done):
        for kernel, (registers, spilled) in sorted(used(log).items()):
            lines.append(f"{kernel} {target} {registers} {spilled}")
    table = "\n".join([*lines[:2], *sorted(lines[2:]), ""])
    if given.check and given.table.read_text() != table:
        sys.exit(f"{given.table} is not what the kernels take: run scripts/kernels, and look at it")
    if not given.table.exists() or given.table.read_text() != table:
        given.table.write_text(table)
    pack(images, given.out)


if __name__ == "__main__":
    main()
