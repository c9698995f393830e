"""Every values file, under both helms: it lints, renders the same, and Kubernetes' schemas take it."""

import unittest

import kubernetes_validate

from helm import CHART, HELMS, VALUES, helm, render

KUBERNETES = ("1.29", "1.33", "1.37")
# No schema of these is at hand: which fields they may have is written here.
OTHERS = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): {"selector", "endpoints"},
    ("monitoring.coreos.com/v1", "PrometheusRule"): {"groups"},
    ("jobset.x-k8s.io/v1alpha2", "JobSet"): {"network", "failurePolicy", "replicatedJobs"},
}


class Rendering(unittest.TestCase):
    def test_every_values_file_lints_strictly_under_both_helms(self):
        self.assertGreaterEqual(len(VALUES), 6)
        for version in HELMS:
            for values in VALUES:
                good, said = helm(version, "lint", "--strict", str(CHART), "-f", str(values))
                self.assertTrue(good, f"{values.name}, helm {version}: {said}")

    def test_the_two_helms_are_what_they_are_called(self):
        for version in HELMS:
            good, said = helm(version, "version", "--short")
            self.assertTrue(good and said.startswith(f"v{version}."), said)

    def test_both_helms_render_the_same(self):
        order = lambda found: (found["kind"], found["metadata"]["name"])
        for values in VALUES:
            three, four = (sorted(render(values, version=version), key=order) for version in ("3", "4"))
            self.assertEqual(three, four, values.name)

    def test_kubernetes_takes_every_object_strictly(self):
        for values in VALUES:
            for found in render(values):
                kind = (found["apiVersion"], found["kind"])
                if kind in OTHERS:
                    self.assertEqual(set(found["spec"]), OTHERS[kind], kind)
                    continue
                for version in KUBERNETES:
                    kubernetes_validate.validate(found, version, strict=True)

    def test_what_other_kinds_hold_of_kubernetes_is_validated_too(self):
        (jobset,) = (f for f in render(CHART / "ci/jobset-values.yaml") if f["kind"] == "JobSet")
        (job,) = jobset["spec"]["replicatedJobs"]
        inner = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "inner"}, "spec": job["template"]["spec"]}
        for version in KUBERNETES:
            kubernetes_validate.validate(inner, version, strict=True)

    def test_a_wrong_field_would_be_noticed(self):
        wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"clusterIp": "None"}}
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, "1.33", strict=True)
