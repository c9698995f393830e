"""Renders the chart with both helms, and reads what they print."""

import json
import os
import pathlib
import re
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/vared"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
HELMS = {version: os.environ[f"VARED_HELM_{version}"] for version in ("3", "4")}
COMPONENTS = ("coordinator", "worker", "loader")


class Loader(yaml.CSafeLoader):
    """A key twice in one mapping is a mistake, not a choice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key twice among {keys}, {node.start_mark}"
        return super().construct_mapping(node, deep)


Loader.add_constructor(
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, lambda loader, node: loader.construct_mapping(node, deep=True)
)


def helm(version, *arguments):
    """What helm says, and whether it agrees."""
    done = subprocess.run([HELMS[version], *arguments], capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout if done.returncode == 0 else done.stdout + done.stderr


def render(values, *more, version="4", release="rel"):
    """Every object that an installation with these values makes."""
    good, text = helm(version, "template", release, str(CHART), "-f", str(values), *more)
    assert good, text
    return [document for document in yaml.load_all(text, Loader) if document]


def templates(objects):
    """Component or name, and pod spec, of everything that makes pods."""
    for found in objects:
        spec = found.get("spec", {})
        if found["kind"] == "JobSet":
            spec = spec["replicatedJobs"][0]["template"]["spec"]
        if found["kind"] == "Pod":
            yield found, found
        elif "template" in spec:
            yield found, spec["template"]


def component(labelled):
    return labelled["metadata"]["labels"]["app.kubernetes.io/component"]


def pods(objects):
    """Pod template by component, the test's included."""
    return {component(template): template for _, template in templates(objects)}


def container(template):
    (only,) = template["spec"]["containers"]
    return only


def flags(program):
    """The long flags that a program's `Args` struct has, as its source says."""
    file, struct = {
        "coordinator": ("coordinator/src/args.rs", "Args"),
        "worker": ("worker/src/args.rs", "RunArgs"),
        "loader": ("dataloader/src/args.rs", "ServeArgs"),
    }[program]
    return flags_of((ROOT / file).read_text(), struct)


def flags_of(text, struct):
    body = re.search(rf"pub struct {struct} \{{\n(.*?)\n\}}", text, re.S).group(1)
    body = re.sub(r"^\s*///.*\n", "", body, flags=re.M)
    found = set()
    for attributes, field, kind in re.findall(r"((?:#\[.*?\]\n\s*)*)pub (\w+): (\w+)", body, re.S):
        long = re.search(r'long = "([\w-]+)"', attributes)
        if "command(flatten)" in attributes:
            found |= flags_of(text, kind)
        else:
            found.add(long.group(1) if long else field.replace("_", "-"))
    return found


def schema():
    return json.loads((CHART / "values.schema.json").read_text())
