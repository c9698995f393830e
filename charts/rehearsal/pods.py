"""Pods without Kubernetes: what a rendered template says, done with network namespaces and bubblewrap.

Each pod has an address and a host name of its own, its user, a read-only root, its volumes, its environment and
arguments, and its program as process 1. Ended containers are started again, as `restartPolicy: Always` says.
Needs root, iproute2, util-linux, bubblewrap and curl.
"""

import os
import pathlib
import re
import signal
import subprocess
import threading
import time

# What of /etc a program may read of its image; the kubelet brings `hosts`.
ETC = ("ssl", "alternatives", "ld.so.cache", "fonts", "passwd", "group", "nsswitch.conf")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Node:
    """A network that pods are put on, with what stands for the cluster's names and secrets."""

    def __init__(self, folder, secrets):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.secrets = secrets
        self.prefix = f"vared-{os.getpid()}"
        self.name = f"{self.prefix}-node"
        self.pods, self.addresses, self.namespaces = [], {}, []
        self._add(self.name)
        run("ip", "-n", self.name, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.name, "addr", "add", "10.77.0.1/24", "dev", "br0")
        run("ip", "-n", self.name, "link", "set", "br0", "up")

    def _add(self, name):
        run("ip", "netns", "add", name)
        self.namespaces.append(name)
        run("ip", "-n", name, "link", "set", "lo", "up")

    def network(self, name, sysctls=()):
        """A namespace with an address on the bridge."""
        number = len(self.namespaces) + 1
        # The number too: a pod that comes after another of its name does not wait for its end.
        space = f"{self.prefix}-{number}-{name}"
        self._add(space)
        run("ip", "-n", self.name, "link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", space)
        run("ip", "-n", self.name, "link", "set", f"v{number}", "master", "br0", "up")
        address = f"10.77.0.{number}"
        run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", space, "link", "set", "eth0", "up")
        for sysctl in sysctls:
            setting = f"/proc/sys/{sysctl['name'].replace('.', '/')}"
            run("ip", "netns", "exec", space, "sh", "-c", f"echo '{sysctl['value']}' > {setting}")
        return space, address

    def call(self, name, address):
        """Gives a name an address, as a Service and the cluster's DNS do."""
        self.addresses[name] = address
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in self.addresses.items())]
        (self.folder / "hosts").write_text("\n".join(lines) + "\n")

    def ask(self, url):
        """What an HTTP page says to the node, or nothing."""
        command = ["ip", "netns", "exec", self.name, "curl", "--silent", "--fail", "--max-time", "5", url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else None

    def close(self):
        for pod in self.pods:
            pod.kill()
        for name in reversed(self.namespaces):
            subprocess.run(["ip", "netns", "del", name], check=False)


class Image:
    """A root file system and where its programs are."""

    def __init__(self, root="/", path="/usr/local/bin:/usr/bin", more=()):
        self.root, self.path, self.more = pathlib.Path(root), path, more

    def arguments(self):
        out = []
        for top in ("usr", "bin", "sbin", "lib", "lib64"):
            found = self.root / top
            if found.is_symlink():
                out += ["--symlink", os.readlink(found), f"/{top}"]
            elif found.exists():
                out += ["--ro-bind", str(found), f"/{top}"]
        for name in ETC:
            if (self.root / "etc" / name).exists():
                out += ["--ro-bind", str(self.root / "etc" / name), f"/etc/{name}"]
        for folder in self.more:
            out += ["--ro-bind", str(folder), str(folder)]
        return out


class Pod:
    """One pod of a template, until it is deleted."""

    def __init__(self, node, name, template, image, restarts=True):
        self.node, self.name, self.spec, self.image = node, name, template["spec"], image
        (self.container,) = self.spec["containers"]
        self.space, self.address = node.network(name, self.spec["securityContext"].get("sysctls", ()))
        self.codes, self.deleted, self.restarts = [], not restarts, restarts
        self.log = node.folder / f"{name}.log"
        node.pods.append(self)
        self._start()
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()

    def _start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _watch(self):
        while True:
            self.codes.append(self.process.wait())
            if self.deleted:
                return
            # A kubelet starts it again at once the first time, and then waits longer and longer.
            time.sleep(0.2 if len(self.codes) < 3 else 2)
            if self.deleted:
                return
            self._start()

    def environment(self):
        fields = {"metadata.name": self.name, "status.podIP": self.address}
        out = {"PATH": self.image.path, "HOSTNAME": self.name}
        for variable in self.container.get("env", []):
            source = variable.get("valueFrom", {})
            if "fieldRef" in source:
                out[variable["name"]] = fields[source["fieldRef"]["fieldPath"]]
            elif "secretKeyRef" in source:
                reference = source["secretKeyRef"]
                out[variable["name"]] = self.node.secrets[reference["name"]][reference["key"]]
            else:
                out[variable["name"]] = variable["value"]
        return out

    def command(self):
        user, environment = self.spec["securityContext"], self.environment()
        out = ["ip", "netns", "exec", self.space, "setpriv", f"--reuid={user['runAsUser']}", f"--regid={user['runAsGroup']}"]
        out += ["--clear-groups", "bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
        out += ["--as-pid-1", "--hostname", self.name, "--clearenv", *self.image.arguments()]
        out += ["--proc", "/proc", "--dev", "/dev", "--ro-bind", str(self.node.folder / "hosts"), "/etc/hosts"]
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", [])}
        for mount in self.container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            if "emptyDir" in volume:
                out += ["--perms", "0755", "--tmpfs", mount["mountPath"]]
            else:
                folder = self.node.folder / "configmaps" / volume["configMap"]["name"]
                out += ["--ro-bind", str(folder), mount["mountPath"]]
        out += ["--remount-ro", "/"]
        for name, value in environment.items():
            out += ["--setenv", name, value]
        known = lambda text: re.sub(r"\$\$|\$\((\w+)\)", lambda m: environment[m[1]] if m[1] else "$", text)
        return out + ["--", *self.container["command"], *map(known, self.container.get("args", []))]

    def first(self):
        """Number, outside, of the pod's process 1."""
        todo = [self.process.pid]
        while todo:
            number = todo.pop()
            try:
                status = pathlib.Path(f"/proc/{number}/status").read_text()
                if re.search(r"^NSpid:\s+\d+\s+1$", status, re.M):
                    return number
                todo += map(int, pathlib.Path(f"/proc/{number}/task/{number}/children").read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
        return None

    def send(self, what):
        number = self.first()
        if number is not None:
            os.kill(number, what)

    def kill(self):
        self.deleted = True
        self.send(signal.SIGKILL)
        self.process.wait()

    def finish(self, limit_seconds):
        """Waits for the end of a pod that is not started again; it must be a good one."""
        self.watcher.join(limit_seconds)
        assert self.codes == [0], f"{self.name} ended with {self.codes}: {self.log.read_text()}"

    def delete(self):
        """SIGTERM, the grace period, SIGKILL; the code that its program ended with."""
        self.deleted = True
        self.send(signal.SIGTERM)
        try:
            return self.process.wait(self.spec["terminationGracePeriodSeconds"])
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def probe(self, kind):
        """Whether a probe of the container succeeds now."""
        probe = self.container[kind]
        ports = {port["name"]: port["containerPort"] for port in self.container.get("ports", [])}
        if "httpGet" in probe:
            asked = probe["httpGet"]
            return self.node.ask(f"http://{self.address}:{ports[asked['port']]}{asked['path']}") is not None
        if "tcpSocket" in probe:
            dial = f"exec 3<>/dev/tcp/{self.address}/{ports[probe['tcpSocket']['port']]}"
            command = ["ip", "netns", "exec", self.node.name, "bash", "-c", dial]
        else:
            command = ["ip", "netns", "exec", self.space, *probe["exec"]["command"]]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
