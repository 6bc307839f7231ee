"""Writes what an image is made of, as CycloneDX 1.6 (JSON): sbom.py MANIFEST VERSION < CARGO-METADATA

MANIFEST is mkosi's list of packages; on standard input comes what `cargo metadata` says of the
workspace. Crates are those that the program is built from, without those of tests and builds.
"""
import json
import sys
import uuid

PROGRAM = "redoubt"


def packages(path):
    """The Debian packages of the image."""
    with open(path) as file:
        listed = json.load(file)["packages"]
    for package in sorted(listed, key=lambda p: p["name"]):
        name, version, machine = package["name"], package["version"], package["architecture"]
        yield {"type": "library", "name": name, "version": version,
               "purl": f"pkg:deb/debian/{name}@{version}?arch={machine}&distro=trixie",
               "bom-ref": f"deb:{name}"}


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
    manifest, version = sys.argv[1:]
    components = [*packages(manifest), *crates(json.load(sys.stdin))]
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
