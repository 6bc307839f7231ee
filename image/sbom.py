"""Writes what an image is made of, as CycloneDX 1.6 (JSON):

    sbom.py VERSION MANIFEST... [--files FILE...] < CARGO-METADATA

A MANIFEST is mkosi's list of packages, of the root and of the initrd; FILES are what comes from no
package: models, modules that were built. On standard input comes what `cargo metadata` says of the
workspace. Crates are those that the program is built from, without those of tests and builds.
"""
import hashlib
import json
import sys
import uuid

PROGRAM = "redoubt"
MODELS = (".gguf", ".safetensors")


def packages(paths):
    """The Debian packages of the image; those of root and initrd are of one mirror at one time."""
    listed = {}
    for path in paths:
        with open(path) as file:
            listed |= {package["name"]: package for package in json.load(file)["packages"]}
    for _, package in sorted(listed.items()):
        name, version, machine = package["name"], package["version"], package["architecture"]
        yield {"type": "library", "name": name, "version": version,
               "purl": f"pkg:deb/debian/{name}@{version}?arch={machine}&distro=trixie",
               "bom-ref": f"deb:{name}"}


def files(paths):
    """What comes from no package, by its digest."""
    for path in sorted(paths):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = path.rsplit("/", 1)[-1]
        yield {"type": "machine-learning-model" if name.endswith(MODELS) else "file", "name": name,
               "bom-ref": f"file:{name}:{digest[:12]}",
               "hashes": [{"alg": "SHA-256", "content": digest}]}


def crates(metadata):
    """The program's crates: everything that its normal dependencies lead to."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    known = {package["id"]: package for package in metadata["packages"]}
    waiting = [id_ for id_, package in known.items()
               if package["name"] == PROGRAM and id_ in metadata["workspace_members"]]
    seen = set(waiting)
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            is_normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if is_normal and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                waiting.append(dependency["pkg"])
    for package in sorted((known[id_] for id_ in seen), key=lambda p: (p["name"], p["version"])):
        component = {"type": "library", "name": package["name"], "version": package["version"],
                     "purl": f"pkg:cargo/{package['name']}@{package['version']}",
                     "bom-ref": f"cargo:{package['name']}@{package['version']}"}
        if package["license"]:
            component["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        yield component


def main():
    version, *rest = sys.argv[1:]
    at = rest.index("--files") if "--files" in rest else len(rest)
    components = [*packages(rest[:at]), *crates(json.load(sys.stdin)), *files(rest[at + 1:])]
    # The same parts have the same number.
    parts = json.dumps(components, sort_keys=True)
    number = uuid.uuid5(uuid.NAMESPACE_OID, f"redoubt image {version} {parts}")
    document = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{number}",
        "version": 1,
        "metadata": {"component": {"type": "operating-system", "name": "redoubt image",
                                   "version": version}},
        "components": components}
    json.dump(document, sys.stdout, indent=1, ensure_ascii=False)
    print()


main()
