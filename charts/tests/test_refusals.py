"""Wrong values are refused, by a sentence that names the key."""

import unittest

import yaml

from helm import CHART, HELMS, VALUES, helm, schema

BASE = CHART / "ci/one-gpu-values.yaml"
# --set…, what the refusal must name.
WRONG = [
    ("worker.replica=2", "replica"),
    ("worker.replicas=two", "replicas"),
    ("worker.kind=DaemonSet", "kind"),
    ("worker.gpu.count=2", "count"),
    ("worker.config.device=gpu", "device"),
    ("worker.config.prefetch=0", "prefetch"),
    ("worker.config.threads=2", "threads"),
    ("worker.shm.sizeLimit=lots", "sizeLimit"),
    ("coordinator.port=80", "port"),
    ("coordinator.config.store=gs://bucket", "store"),
    ("coordinator.config.patience=soon", "patience"),
    ("coordinator.config.set={lanes}", "set"),
    ("coordinator.config.keep_last=0", "keep_last"),
    ("coordinator.config.run=a/b", "run"),
    ("coordinator.replicas=2", "replicas"),
    ("loader.config.decode_threads=0", "decode_threads"),
    ("loader.config.decodeThreads=2", "decodeThreads"),
    ("loader.podDisruptionBudget.maxUnavailable=half", "maxUnavailable"),
    ("loader.extraArgs={serve}", "extraArgs"),
    ("loader.image.digest=sha256:12", "digest"),
    ("image.pullPolicy=Sometimes", "pullPolicy"),
    ("store.endpoint=minio:9000", "endpoint"),
    ("store.secretKey=x", "secretKey"),
    ("networkPolicies.enabled=false", "networkPolicies"),
    ("worker.extraEnv[0].name=AWS_SECRET_ACCESS_KEY,worker.extraEnv[0].value=x", "extraEnv"),
    # What fits no schema: values that must fit each other.
    ("coordinator.config.store=", "coordinator.config.store is empty"),
    ("coordinator.config.workers=2", "coordinator.config.workers is 2, but worker.replicas is 1"),
    ("coordinator.config.min_workers=2", "coordinator.config.min_workers is 2"),
    ("recipe=x", "recipe and coordinator.config.recipe"),
    ("store.webIdentity.roleArn=x", "store.credentials.secretName and store.webIdentity.roleArn"),
    ("worker.peerPorts.last=39999", "worker.peerPorts.last is 39999"),
    ("loader.autoscaling.minReplicas=9", "loader.autoscaling.minReplicas is 9"),
]


class Refusals(unittest.TestCase):
    def test_each_wrong_value_is_named(self):
        for version in HELMS:
            for change, named in WRONG:
                good, said = helm(version, "template", "rel", str(CHART), "-f", str(BASE), "--set", change)
                self.assertFalse(good, f"{change} was taken by helm {version}")
                self.assertIn(named, said, f"{change}, helm {version}")

    def test_the_values_that_are_changed_are_good_without_the_change(self):
        self.assertIn(BASE, VALUES)
        good, said = helm("4", "template", "rel", str(CHART), "-f", str(BASE))
        self.assertTrue(good, said)

    def test_no_block_of_the_schema_takes_unknown_keys(self):
        def walk(node, path):
            if not isinstance(node, dict):
                return
            if "properties" in node and "not" not in path[-1:]:
                self.assertIs(node.get("additionalProperties"), False, path)
            for key, child in node.items():
                walk(child, [*path, key])

        walk(schema(), [])

    def test_every_value_has_its_place_in_the_schema_and_the_other_way_round(self):
        def keys(value, node, path):
            node = schema()["definitions"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node
            if isinstance(value, dict) and "properties" in node:
                self.assertEqual(set(value), set(node["properties"]) - {"global"}, path)
                for key, child in value.items():
                    keys(child, node["properties"][key], f"{path}.{key}")

        # Empty maps of the defaults have no keys to compare.
        keys(yaml.safe_load((CHART / "values.yaml").read_text()), schema(), "values")
