"""What matters in what is rendered: rights, ports, secrets, ends."""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from helm import CHART, COMPONENTS, ROOT, VALUES, component, container, flags, pods, render, schema, templates

PORTS = {"coordinator": 7000, "loader": 7001}
PROBES = {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
HEALTH = ROOT / "libs/runtime/src/health.rs"
# Where each program says its figures.
FIGURES = {"coordinator": "coordinator/src/dashboard/web.rs", "loader": "dataloader/src/metrics.rs"}


class Objects(unittest.TestCase):
    at = None

    def each(self):
        """Every pod of every values file; `at` names it in failures."""
        for values in VALUES:
            objects = render(values)
            for name, template in pods(objects).items():
                self.at = f"{values.name}, {name}"
                yield objects, name, template

    def _formatMessage(self, msg, standardMsg):
        return f"{self.at}: {super()._formatMessage(msg, standardMsg)}"

    def test_nothing_has_a_privilege(self):
        for _, _, template in self.each():
            spec = template["spec"]
            self.assertIs(spec["automountServiceAccountToken"], False)
            self.assertFalse({"hostNetwork", "hostPID", "hostIPC"} & set(spec))
            self.assertNotIn("initContainers", spec)
            pod = spec["securityContext"]
            self.assertTrue(pod["runAsNonRoot"] and pod["runAsUser"] > 0 and pod["fsGroup"] > 0)
            self.assertEqual(pod["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertEqual(
                container(template)["securityContext"],
                {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
            )
            for volume in spec.get("volumes", []):
                self.assertNotIn("hostPath", volume)

    def test_the_api_of_the_cluster_is_asked_by_nobody(self):
        for values in VALUES:
            kinds = {found["kind"] for found in render(values)}
            self.assertFalse(kinds & {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "Secret"})

    def test_every_secret_is_a_reference(self):
        for _, name, template in self.each():
            for variable in container(template).get("env", []):
                if re.search("SECRET|ACCESS_KEY|SESSION_TOKEN", variable["name"]):
                    self.assertEqual(set(variable["valueFrom"]), {"secretKeyRef"}, f"{name}: {variable}")

    def test_keys_or_an_identity_reach_all_three(self):
        for values, wanted in [("one-gpu", "AWS_SECRET_ACCESS_KEY"), ("web-identity", "AWS_WEB_IDENTITY_TOKEN_FILE")]:
            for name in COMPONENTS:
                template = pods(render(CHART / f"ci/{values}-values.yaml"))[name]
                env = {variable["name"] for variable in container(template)["env"]}
                self.assertIn(wanted, env, name)
        mounted = {mount["mountPath"] for mount in container(template)["volumeMounts"]}
        (token,) = (v["value"] for v in container(template)["env"] if v["name"] == "AWS_WEB_IDENTITY_TOKEN_FILE")
        self.assertIn(token.rsplit("/", 1)[0], mounted)

    def test_everything_that_is_mounted_is_a_volume_and_may_be_written_where_it_must(self):
        for _, name, template in self.each():
            mounts = {mount["name"]: mount for mount in container(template).get("volumeMounts", [])}
            volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
            self.assertEqual(set(mounts), set(volumes))
            if name == "coordinator":
                (logs,) = (a.split("=")[1] for a in container(template)["args"] if a.startswith("--log-dir="))
                self.assertEqual((mounts["logs"]["mountPath"], "emptyDir" in volumes["logs"]), (logs, True))
            if name == "worker":
                self.assertEqual(volumes["shm"]["emptyDir"]["medium"], "Memory")
                self.assertEqual(mounts["shm"]["mountPath"], "/dev/shm")

    def policies(self, objects):
        return {component(found): found["spec"] for found in objects if found["kind"] == "NetworkPolicy"}

    def test_every_port_of_a_container_is_let_in_and_nothing_else(self):
        for objects, name, template in self.each():
            if name == "test":
                continue
            policy = self.policies(objects)[name]
            self.assertEqual(policy["policyTypes"], ["Ingress", "Egress"])
            let_in = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
            if name == "worker":
                (range_,) = (p for rule in policy["ingress"] for p in rule["ports"])
                (sysctl,) = template["spec"]["securityContext"]["sysctls"]
                self.assertEqual(sysctl["name"], "net.ipv4.ip_local_port_range")
                self.assertEqual(sysctl["value"], f"{range_['port']} {range_['endPort']}")
                self.assertNotIn("ports", container(template))
            else:
                self.assertEqual(let_in, {port["containerPort"] for port in container(template)["ports"]})
                self.assertEqual(let_in, {PORTS[name]})

    def test_who_may_dial_is_let_out_and_in(self):
        """Each line of the table of who dials whom stands in both policies, and the address is what is dialled."""
        for objects, name, template in self.each():
            if name not in ("worker", "loader"):
                continue
            policies = self.policies(objects)
            dialled = {"worker": ("coordinator", "loader", "worker"), "loader": ("coordinator",)}[name]
            for other in dialled:
                target = {"podSelector": {"matchLabels": self.selector(objects, other)}}
                self.assertTrue(any(target in rule.get("to", []) for rule in policies[name]["egress"]), (name, other))
                own = {"podSelector": {"matchLabels": self.selector(objects, name)}}
                self.assertTrue(any(own in rule["from"] for rule in policies[other]["ingress"]), (name, other))
            (url,) = (a.split("=", 1)[1] for a in container(template)["args"] if a.startswith("--coordinator="))
            host, port = url.removeprefix("http://").split(":")
            (service,) = (f for f in objects if f["kind"] == "Service" and f["metadata"]["name"] == host)
            self.assertEqual([p["port"] for p in service["spec"]["ports"]], [int(port)])
            self.assertEqual(service["spec"]["selector"], self.selector(objects, "coordinator"))

    def selector(self, objects, name):
        labels = pods(objects)[name]["metadata"]["labels"]
        return {f"app.kubernetes.io/{key}": labels[f"app.kubernetes.io/{key}"] for key in ("name", "instance", "component")}

    def test_the_store_s_port_is_let_out(self):
        for values, port in [("on-prem", 8333), ("one-gpu", 443)]:
            for name, policy in self.policies(render(CHART / f"ci/{values}-values.yaml")).items():
                self.assertTrue(any(p["port"] == port for rule in policy["egress"] for p in rule["ports"]), name)

    def test_every_selector_finds_its_pods(self):
        for values in VALUES:
            objects = render(values)
            labels = {name: template["metadata"]["labels"] for name, template in pods(objects).items()}
            for found in objects:
                spec = found.get("spec", {})
                wanted = spec.get("selector") or spec.get("podSelector")
                if not wanted or found["kind"] == "ServiceMonitor":
                    continue
                wanted = wanted.get("matchLabels", wanted)
                matched = [name for name, has in labels.items() if wanted.items() <= has.items()]
                self.assertEqual(matched, [component(found)], found["metadata"]["name"])

    def test_budgets_let_nodes_be_drained(self):
        for values in VALUES:
            budgets = {component(f): f["spec"] for f in render(values) if f["kind"] == "PodDisruptionBudget"}
            self.assertEqual(set(budgets), set(COMPONENTS))
            for budget in budgets.values():
                self.assertNotIn(budget["maxUnavailable"], (0, "0%"))

    def test_grace_covers_a_drain(self):
        """A drain may take six times the patience: libs/cluster/src/limits.rs."""
        self.assertIn("drain: patience * 6,", (ROOT / "libs/cluster/src/limits.rs").read_text())
        for values, patience in [("one-gpu", 10), ("spot", 20), ("jobset", 90)]:
            for name in COMPONENTS:
                spec = pods(render(CHART / f"ci/{values}-values.yaml"))[name]["spec"]
                self.assertGreater(spec["terminationGracePeriodSeconds"], 7 * patience, (values, name))

    def test_probes_wait_for_no_worker_and_give_a_start_its_time(self):
        for _, name, template in self.each():
            if name == "test":
                continue
            own = container(template)
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                self.assertIn(probe, own)
            if name != "worker":
                for probe, path in PROBES.items():
                    self.assertEqual(own[probe]["httpGet"], {"path": path, "port": "grpc"})
                    self.assertIn(f'.route("{path}", ', HEALTH.read_text())
            if name == "worker":
                hexadecimal = re.search("':([0-9A-F]{4}) 01 '", own["readinessProbe"]["exec"]["command"][2]).group(1)
                self.assertEqual(int(hexadecimal, 16), PORTS["coordinator"])
            # Sixty seconds of retries at the store, or of waiting for the coordinator, are no reason to kill.
            start = own["startupProbe"]
            self.assertGreaterEqual(start["periodSeconds"] * start["failureThreshold"], 60)

    def test_workers_get_a_gpu_and_its_toleration_or_neither(self):
        for values, resource in [("one-gpu", "nvidia.com/gpu"), ("indexed-job", "nvidia.com/mig-3g.40gb")]:
            template = pods(render(CHART / f"ci/{values}-values.yaml"))["worker"]
            resources = container(template)["resources"]
            self.assertEqual((resources["limits"][resource], resources["requests"][resource]), (1, 1))
            self.assertIn({"key": resource, "operator": "Exists", "effect": "NoSchedule"}, template["spec"]["tolerations"])
            self.assertIn("memory", resources["limits"])
        template = pods(render(CHART / "ci/on-prem-values.yaml"))["worker"]
        self.assertNotIn("tolerations", template["spec"])
        self.assertEqual(set(container(template)["resources"]["limits"]), {"memory"})

    def test_there_is_one_coordinator_and_never_two(self):
        for values in VALUES:
            (found,) = (f for f, t in templates(render(values)) if component(t) == "coordinator")
            self.assertEqual((found["spec"]["replicas"], found["spec"]["strategy"]), (1, {"type": "Recreate"}))

    def test_workers_start_all_at_once_whatever_starts_them(self):
        kinds = {"one-gpu": "StatefulSet", "indexed-job": "Job", "jobset": "JobSet"}
        for values, kind in kinds.items():
            (found,) = (f for f, t in templates(render(CHART / f"ci/{values}-values.yaml")) if component(t) == "worker")
            self.assertEqual(found["kind"], kind)
            spec = found["spec"] if kind != "JobSet" else found["spec"]["replicatedJobs"][0]["template"]["spec"]
            if kind == "StatefulSet":
                self.assertEqual(spec["podManagementPolicy"], "Parallel")
            else:
                self.assertEqual((spec["parallelism"], spec["completions"]), (8, 8))
                self.assertEqual(spec["template"]["spec"]["restartPolicy"], "Never")
                self.assertIn("--name=worker-$(WORKER_INDEX)", container(spec["template"])["args"])
        self.assertEqual(found["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "gpus")

    def test_in_a_job_a_worker_that_was_asked_to_leave_is_not_done(self):
        command = container(pods(render(CHART / "ci/indexed-job-values.yaml"))["worker"])["command"]
        leaves = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"
        for worker, asked, code in [("exit 0", False, 0), ("exit 78", False, 78), (leaves, True, 75)]:
            with tempfile.TemporaryDirectory() as folder:
                program = pathlib.Path(folder, "worker")
                program.write_text(f"#!/bin/sh\n{worker}\n")
                program.chmod(0o755)
                path = {"PATH": f"{folder}:{os.environ['PATH']}"}
                with subprocess.Popen(command, env=path, stdout=subprocess.PIPE, text=True) as started:
                    if asked:
                        started.stdout.readline()
                        started.terminate()
                    self.assertEqual(started.wait(30), code, worker)

    def test_variables_in_arguments_are_set(self):
        for _, _, template in self.each():
            own = container(template)
            env = {variable["name"] for variable in own.get("env", [])}
            for argument in own.get("args", []):
                self.assertLessEqual(set(re.findall(r"(?<!\$)\$\((\w+)\)", argument)), env)

    def test_more_flags_come_after_the_chart_s(self):
        for name in COMPONENTS:
            objects = render(CHART / "ci/one-gpu-values.yaml", "--set", f"{name}.extraArgs={{--x=1}}")
            self.assertEqual(container(pods(objects)[name])["args"][-1], "--x=1")

    def test_a_value_with_a_dollar_stays_what_it_is(self):
        values = CHART / "ci/one-gpu-values.yaml"
        objects = render(values, "--set", "coordinator.config.set={a=$(POD_NAME)}")
        self.assertIn("--set=a=$$(POD_NAME)", container(pods(objects)["coordinator"])["args"])

    def test_names_are_short_enough_for_members(self):
        objects = render(CHART / "ci/spot-values.yaml", release="a" * 53)
        for found, _ in templates(objects):
            # A Deployment's pod: name, hash, five letters. A member's name has 64 characters at most.
            self.assertLessEqual(len(found["metadata"]["name"]) + 17, 63)

    def test_config_blocks_have_the_programs_flags(self):
        set_here = {
            "coordinator": {"external", "listen", "log-dir"},
            "worker": {"coordinator", "name"},
            "loader": {"coordinator", "name", "listen", "advertise"},
        }
        # Those that launch, and those that need a volume beside them: `extraArgs`, `extraVolumes`.
        left_out = {"spares", "disk-cache", "disk-cache-mib", "read-ahead-mib"}
        for name in COMPONENTS:
            keys = schema()["properties"][name]["properties"]["config"]["properties"]
            keys = {key.replace("_", "-") for key in keys}
            self.assertEqual(keys | set_here[name], flags(name) - left_out, name)
            self.assertFalse(keys & set_here[name])

    def test_the_arguments_are_those_that_the_programs_tests_parse(self):
        """`arguments.json` is parsed by the programs' own tests; `VARED_BLESS=1` writes it."""
        found = {
            values.name.removesuffix("-values.yaml"): {
                name: container(template)["args"]
                for name, template in pods(render(values)).items()
                if name in COMPONENTS
            }
            for values in VALUES
        }
        file = CHART.parent / "tests/arguments.json"
        text = json.dumps(found, indent=1) + "\n"
        if os.environ.get("VARED_BLESS"):
            file.write_text(text)
        self.assertEqual(file.read_text(), text, "run again with VARED_BLESS=1 if the change is meant")


class Monitoring(unittest.TestCase):
    def setUp(self):
        self.objects = render(CHART / "ci/spot-values.yaml")

    def exported(self):
        """Names of all figures, and whether they count."""
        called = r'page\s*\.(gauge|counter)s?\(\s*"(vared_\w+)"'
        found = {}
        for file in FIGURES.values():
            text = (ROOT / file).read_text()
            found |= {name: kind for kind, name in re.findall(called, text)}
            # A table of names, all put down as counters.
            found |= dict.fromkeys(re.findall(r'^\s*\("(vared_\w+)", "', text, re.M), "counter")
            self.assertEqual(set(re.findall(r'"(vared_\w+)"', text.split("#[cfg(test)]")[0])) - set(found), set(), file)
        return found

    def test_the_names_say_who_tells_and_what_counts(self):
        for name, kind in self.exported().items():
            self.assertEqual(name.endswith("_total"), kind == "counter", name)
        text = (ROOT / FIGURES["loader"]).read_text()
        self.assertEqual(set(re.findall(r'"(vared_\w+)"', text)), {n for n in self.exported() if n.startswith("vared_loader_")})

    def test_each_figure_is_asked_of_the_program_that_tells_it(self):
        rules = json.dumps([f["spec"] for f in self.objects if f["kind"] == "PrometheusRule"])
        board = (CHART / "dashboards/vared.json").read_text()
        asked = re.findall(r'\b(vared_\w+)\{([^}]*)\}', rules + board)
        self.assertGreater(len(asked), 40)
        for name, selector in asked:
            if job := re.search(r'job=\\"([^\\]+)\\"', selector):
                loader = name.startswith("vared_loader_")
                self.assertIn(job.group(1), ("$loaders", "rel-vared-loader") if loader else ("$job", "rel-vared-coordinator"), name)

    def test_metrics_that_are_used_are_exported_and_the_other_way_round(self):
        (rules,) = (f for f in self.objects if f["kind"] == "PrometheusRule")
        (scaler,) = (f for f in self.objects if f["kind"] == "HorizontalPodAutoscaler")
        (board,) = (f for f in self.objects if f["metadata"]["name"].endswith("-dashboard"))
        used = {name: set(re.findall(r"\bvared_\w+", json.dumps(found))) for name, found in
                [("rules", rules["spec"]), ("scaler", scaler["spec"]), ("dashboard", board["data"])]}
        for name, metrics in used.items():
            self.assertTrue(metrics, name)
            self.assertLessEqual(metrics, set(self.exported()), name)
        self.assertEqual(set.union(*used.values()), set(self.exported()), "a metric that nobody looks at")

    def test_counters_are_rated_and_gauges_are_not(self):
        text = (CHART / "templates/monitoring.yaml").read_text() + (CHART / "dashboards/vared.json").read_text()
        for function, metric in re.findall(r"\b(rate|increase)\((vared_\w+)", text):
            self.assertTrue(metric.endswith("_total"), f"{function}({metric})")

    def test_expressions_balance_and_alerts_say_what_to_do(self):
        (rules,) = (f for f in self.objects if f["kind"] == "PrometheusRule")
        alerts = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
        self.assertEqual(len({rule["alert"] for rule in alerts}), len(alerts))
        page = (ROOT / "docs/kubernetes.md").read_text()
        for rule in alerts:
            for left, right in ("()", "{}", "[]"):
                self.assertEqual(rule["expr"].count(left), rule["expr"].count(right), rule["expr"])
            self.assertEqual(rule["expr"].count('"') % 2, 0)
            self.assertIn(rule["labels"]["severity"], ("critical", "warning", "info"))
            self.assertIn(rule["alert"], page, "every alert is on the page")

    def test_the_monitors_scrape_a_port_of_each_service_and_are_let_in(self):
        monitors = [f for f in self.objects if f["kind"] == "ServiceMonitor"]
        self.assertEqual({component(f) for f in monitors}, set(FIGURES))
        policies = {component(f): f["spec"] for f in self.objects if f["kind"] == "NetworkPolicy"}
        for monitor in monitors:
            (endpoint,) = monitor["spec"]["endpoints"]
            services = [f for f in self.objects if f["kind"] == "Service"
                        and monitor["spec"]["selector"]["matchLabels"].items() <= f["metadata"]["labels"].items()]
            self.assertEqual([f["metadata"]["name"] for f in services], [f"rel-vared-{component(monitor)}"])
            self.assertIn(endpoint["port"], [port["name"] for port in services[0]["spec"]["ports"]])
            self.assertIn(f'.route("{endpoint["path"]}", ', HEALTH.read_text())
            peers = [peer for rule in policies[component(monitor)]["ingress"] for peer in rule["from"]]
            self.assertTrue(any("namespaceSelector" in peer for peer in peers), component(monitor))

    def test_the_dashboard_is_one_that_grafana_takes(self):
        board = json.loads((CHART / "dashboards/vared.json").read_text())
        ids = [panel["id"] for panel in board["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
        self.assertEqual(len(places), len(set(places)), "no panel lies over another")
        self.assertTrue(all(panel["targets"] for panel in board["panels"]))


class Scaling(unittest.TestCase):
    def test_loaders_are_scaled_by_a_figure_of_their_own(self):
        (scaler,) = (f for f in render(CHART / "ci/spot-values.yaml") if f["kind"] == "HorizontalPodAutoscaler")
        (metric,) = scaler["spec"]["metrics"]
        self.assertEqual(metric["pods"]["metric"]["name"], "vared_loader_data_wait_ratio")

    def test_a_scaled_deployment_says_no_number_and_moves_by_one(self):
        objects = render(CHART / "ci/spot-values.yaml")
        (scaler,) = (f for f in objects if f["kind"] == "HorizontalPodAutoscaler")
        (loader,) = (f for f in objects if f["kind"] == "Deployment" and component(f) == "loader")
        self.assertEqual(scaler["spec"]["scaleTargetRef"]["name"], loader["metadata"]["name"])
        self.assertNotIn("replicas", loader["spec"])
        for direction in ("scaleUp", "scaleDown"):
            (policy,) = scaler["spec"]["behavior"][direction]["policies"]
            self.assertEqual((policy["type"], policy["value"]), ("Pods", 1))
