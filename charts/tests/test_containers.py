"""The container files: linted, pinned, without rights, and fitting what the chart says of them."""

import os
import re
import subprocess
import tempfile
import tomllib
import unittest

import yaml

from helm import CHART, COMPONENTS, ROOT

FILE = ROOT / "containers/Dockerfile"


def lint(file):
    command = [os.environ["VARED_HADOLINT"], "--config", str(ROOT / "containers/hadolint.yaml"), str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Containers(unittest.TestCase):
    def setUp(self):
        self.text = FILE.read_text()
        self.values = yaml.safe_load((CHART / "values.yaml").read_text())

    def stages(self):
        parts = re.split(r"^FROM (\S+) AS (\w+)$", self.text, flags=re.M)[1:]
        return {name: (base, body) for base, name, body in zip(parts[::3], parts[1::3], parts[2::3])}

    def finals(self):
        for component in COMPONENTS:
            name = self.values[component]["image"]["repository"].rsplit("/", 1)[1]
            yield component, name, self.stages()[name]

    def test_hadolint_has_nothing_to_say(self):
        done = lint(FILE)
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_hadolint_would_say_something(self):
        with tempfile.NamedTemporaryFile("w", suffix=".Dockerfile") as file:
            file.write("FROM debian:latest\nRUN cd /tmp\n")
            file.flush()
            self.assertNotEqual(lint(file.name).returncode, 0)

    def test_bases_are_pinned(self):
        for name, value in re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", self.text, re.M):
            self.assertRegex(value, r":\d+\.\d+(\.\d+)?-|@sha256:", name)
        stages = self.stages()
        for base, _ in stages.values():
            self.assertTrue(base in stages or re.fullmatch(r"\$\{\w+_IMAGE\}", base), base)
        rust = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
        self.assertIn(f"RUST_IMAGE=rust:{rust}-", self.text)

    def test_every_image_runs_as_the_chart_s_user_and_says_how_it_is(self):
        user, group = (self.values["podSecurityContext"][key] for key in ("runAsUser", "runAsGroup"))
        for component, name, (_, body) in self.finals():
            self.assertIn(f"\nUSER {user}:{group}\n", body, name)
            self.assertIn("\nHEALTHCHECK ", body, name)
            self.assertNotIn("\nUSER", body.split("\nUSER", 1)[1], name)
            port = self.values[component].get("port")
            self.assertEqual(re.findall(r"^EXPOSE (\d+)$", body, re.M), [str(port)] if port else [])

    def test_libtorch_is_in_the_worker_s_image_only(self):
        for component, name, (base, body) in self.finals():
            self.assertEqual("libtorch" in body, component == "worker", name)
            self.assertEqual("CUDA" in base, component == "worker", name)
        self.assertNotIn("setup", self.stages()["services"][1])

    def test_the_context_holds_every_crate(self):
        kept = set(re.findall(r"^!(\S+)$", FILE.with_name("Dockerfile.dockerignore").read_text(), re.M))
        members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
        self.assertLessEqual({member.split("/")[0] for member in members}, kept)
        self.assertLessEqual({"Cargo.lock", ".cargo", "recipes", "rust-toolchain.toml"}, kept)

    def test_images_have_the_chart_s_version(self):
        version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
        self.assertEqual(tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"], version)
