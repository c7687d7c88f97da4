#!/usr/bin/env python3
"""Prints a CycloneDX 1.5 bill of materials of the program: every crate that Cargo.lock pins and that the
program (not its build or its tests) is made of, as `cargo metadata` resolves them.

Source: https://cyclonedx.org/docs/1.5/json/
"""

import json
import pathlib
import subprocess
import tomllib

root = pathlib.Path(__file__).resolve().parent.parent
metadata = json.loads(
    subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"],
        cwd=root,
        check=True,
        capture_output=True,
    ).stdout
)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
checksums = {
    (package["name"], package["version"]): package.get("checksum")
    for package in tomllib.loads((root / "Cargo.lock").read_text())["package"]
}


def runtime_dependencies(package_id):
    """Normal dependencies only: neither build scripts' nor tests'."""
    return sorted(
        dependency["pkg"]
        for dependency in nodes[package_id]["deps"]
        if any(kind["kind"] is None for kind in dependency["dep_kinds"])
    )


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, kind):
    entry = {
        "type": kind,
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
    }
    if package.get("license"):
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum := checksums.get((package["name"], package["version"])):
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return entry


start = next(package["id"] for package in metadata["packages"] if package["name"] == "cli" and not package["source"])
reached, waiting = set(), [start]
while waiting:
    current = waiting.pop()
    if current not in reached:
        reached.add(current)
        waiting.extend(runtime_dependencies(current))
order = sorted(reached - {start}, key=lambda id: (packages[id]["name"], packages[id]["version"]))
program = component(packages[start], "application") | {"name": "ringmaster"}
bom = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "version": 1,
    "metadata": {"component": program},
    "components": [component(packages[id], "library") for id in order],
    "dependencies": [
        {"ref": purl(packages[id]), "dependsOn": [purl(packages[other]) for other in runtime_dependencies(id)]}
        for id in [start, *order]
    ],
}
print(json.dumps(bom, indent=1))
