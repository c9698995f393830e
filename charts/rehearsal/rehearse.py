"""The chart's run, rehearsed: rehearse.py PROGRAMS WEED FOLDER.

Renders the chart, starts what it says in network namespaces beside a real S3-compatible server, kills a worker, drains
a loader, replaces the coordinator, and compares the weights in the end with those of a plain local run.
"""

import hashlib
import pathlib
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import helm  # noqa: E402
from pods import Image, Node, Pod, run  # noqa: E402

# Nothing here takes this long, on the busiest machine.
LIMIT_SECONDS = 240
KEYS = {"access": "rehearsal", "secret": "rehearsal-secret"}
CLIPS = ["--train-clips", "12", "--val-clips", "2"]


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def wait(what, condition):
    """Polls, as a kubelet does; the last thing that was seen is returned."""
    until = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < until:
        if seen := condition():
            return seen
        time.sleep(0.1)
    raise SystemExit(f"waited {LIMIT_SECONDS} s in vain for {what}; the logs say more")


class Rehearsal:
    def __init__(self, programs, weed, folder):
        self.programs, self.weed, self.folder = programs, weed, folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.node = Node(folder / "pods", {"s3": KEYS})
        # The programs find libtorch beside the checkout that they were built in.
        checkout = programs.parent.parent
        more = [programs, *(path for path in [checkout / ".deps/libtorch"] if path.exists())]
        self.images = dict.fromkeys(helm.COMPONENTS, Image(path=f"{programs}:/usr/bin", more=more))
        objects = helm.render(HERE / "values.yaml", "--set-file", f"recipe={HERE / 'recipe.toml'}")
        self.templates = helm.pods(objects)
        self.kinds = {helm.component(template): found for found, template in helm.templates(objects)}
        for found in objects:
            if found["kind"] == "ConfigMap":
                for name, text in found["data"].items():
                    file = folder / "pods/configmaps" / found["metadata"]["name"] / name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(text)
        self.made = 0

    def plain(self):
        """The same recipe as as many workers train it on this machine, in a folder, undisturbed."""
        workers = self.kinds["worker"]["spec"]["replicas"]
        store = self.folder / "plain"
        store.mkdir()
        program = lambda name, *rest: run(str(self.programs / name), *rest)
        program("dataloader", "demo", "--to", f"{store}/data/demo", *CLIPS)
        program("coordinator", "--workers", str(workers), "--recipe", str(HERE / "recipe.toml"), "--store", str(store),
                "--run", "rehearsal", "--log-dir", str(self.folder / "logs"))
        return self.weights(str(store), {})

    def weights(self, store, environment, space=None):
        """Digest of the last checkpoint's weights, as `worker export` reads them."""
        file = self.folder / "weights.safetensors"
        command = ["ip", "netns", "exec", space] if space else []
        command += ["env", *(f"{name}={value}" for name, value in environment.items())]
        run(*command, str(self.programs / "worker"), "export", "--store", store, "--run", "rehearsal", "-o", str(file))
        return hashlib.sha256(file.read_bytes()).hexdigest()

    def server(self):
        """SeaweedFS at its name and port, as another release in the cluster would bring it."""
        space, address = self.node.network("seaweedfs")
        self.node.call("seaweedfs.storage", address)
        data = self.folder / "seaweedfs"
        data.mkdir()
        log = (self.folder / "pods/seaweedfs.log").open("wb")
        keys = [f"AWS_ACCESS_KEY_ID={KEYS['access']}", f"AWS_SECRET_ACCESS_KEY={KEYS['secret']}"]
        # A /tmp of its own: servers side by side would meet at a socket there, and serve each other's objects.
        apart = ["bwrap", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--die-with-parent"]
        apart += ["--bind", str(data), str(data), "--ro-bind", str(self.weed), str(self.weed)]
        command = ["ip", "netns", "exec", space, *apart, "env", *keys]
        command += [str(self.weed), "mini", f"-dir={data}", f"-ip={address}"]
        command += ["-ip.bind=0.0.0.0", "-bucket=test", "-admin.ui=false", "-s3.port=8333"]
        self.s3 = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait("SeaweedFS", lambda: "200" in self.answer(f"http://{address}:8333/healthz"))
        self.address, self.space = address, space

    def answer(self, url):
        command = ["ip", "netns", "exec", self.node.name, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def pod(self, component):
        """A pod of a component, named as its controller would."""
        kind, self.made = self.kinds[component], self.made + 1
        names = [pod.name for pod in self.node.pods if not pod.deleted]
        full = kind["metadata"]["name"]
        ordinal = next(i for i in range(99) if f"{full}-{i}" not in names)
        name = f"{full}-{ordinal}" if kind["kind"] == "StatefulSet" else f"{full}-{self.made:05}"
        pod = Pod(self.node, name, self.templates[component], self.images[component])
        if component == "coordinator":
            self.node.call("vared-coordinator", pod.address)
            self.coordinator = pod
        return pod

    def fill(self):
        """The clips, by the loader's image, as a Job in the cluster would bring them."""
        template = {"spec": dict(self.templates["loader"]["spec"])}
        (own,) = template["spec"]["containers"]
        args = ["demo", "--to", "s3://test/vared/data/demo", *CLIPS]
        template["spec"]["containers"] = [{**own, "args": args}]
        Pod(self.node, "fill", template, self.images["loader"], restarts=False).finish(LIMIT_SECONDS)

    def test(self):
        """The hook of `helm test`."""
        Pod(self.node, "test", self.templates["test"], self.images["coordinator"], restarts=False).finish(LIMIT_SECONDS)

    def figure(self, name, pod=None):
        """What a pod says of itself, the coordinator if none is named."""
        at = f"{pod.address}:7001" if pod else f"{self.coordinator.address}:7000"
        for line in (self.node.ask(f"http://{at}/metrics") or "").splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        return 0.0

    def trains_past(self, step):
        wait(f"step {step:.0f}", lambda: self.figure("vared_training") and self.figure("vared_step") >= step)

    def ready(self, pods):
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            for pod in pods:
                wait(f"{pod.name}'s {kind}", lambda: pod.probe(kind))

    def play(self):
        wanted = self.plain()
        say(f"a plain local run: weights {wanted[:12]}")
        self.server()
        self.fill()
        say("SeaweedFS serves the clips")

        coordinator = self.pod("coordinator")
        self.ready([coordinator])
        self.test()
        say("the coordinator is ready before there is any worker; `helm test` succeeds")
        loaders = [self.pod("loader") for _ in range(self.kinds["loader"]["spec"]["replicas"])]
        workers = [self.pod("worker") for _ in range(self.kinds["worker"]["spec"]["replicas"])]
        self.ready([*loaders, *workers])
        self.trains_past(30)
        for loader in loaders:
            assert self.figure("vared_loader_streams", loader) == len(workers), "every worker asks every loader"
        say(f"{len(workers)} workers and {len(loaders)} loaders train; every probe succeeds")

        generation = self.figure("vared_generation")
        workers[1].send(signal.SIGKILL)
        wait("the worker to be started again", lambda: workers[1].codes)
        wait("another generation", lambda: self.figure("vared_generation") > generation)
        self.trains_past(self.figure("vared_step") + 10)
        assert self.figure("vared_set_backs_total") >= 1
        say(f"killed {workers[1].name} (code {workers[1].codes[0]}), it came back and the run goes on")

        set_backs = self.figure("vared_set_backs_total")
        assert loaders[0].delete() == 0, "a loader that is asked to leave ends with 0"
        loaders[0] = self.pod("loader")
        self.trains_past(self.figure("vared_step") + 10)
        assert self.figure("vared_set_backs_total") == set_backs, "the other loader takes over"
        say("drained a loader, it ended with 0 and set nothing back; another took its place")

        assert coordinator.delete() == 0, "a coordinator that is asked to stop leaves a checkpoint and ends with 0"
        coordinator = self.pod("coordinator")
        self.trains_past(self.figure("vared_step") + 10)
        assert "going on from step" in coordinator.log.read_text()
        say("replaced the coordinator; the new one goes on from its checkpoint")

        assert workers[2].delete() == 0, "a worker that is asked to leave ends with 0"
        workers[2] = self.pod("worker")
        self.trains_past(self.figure("vared_step") + 10)
        say("drained a worker, it ended with 0; another took its seat")

        wait("the end of the run", lambda: coordinator.codes)
        assert coordinator.codes[0] == 0, coordinator.log.read_text()
        environment = {"AWS_ENDPOINT": f"http://{self.address}:8333", "AWS_REGION": "us-east-1"}
        environment |= {"AWS_ACCESS_KEY_ID": KEYS["access"], "AWS_SECRET_ACCESS_KEY": KEYS["secret"]}
        found = self.weights("s3://test/vared", environment, self.space)
        assert found == wanted, f"the weights are {found}, those of the plain run {wanted}"
        say(f"the weights are the same bytes: {found[:12]}")

    def close(self):
        self.node.close()
        if hasattr(self, "s3"):
            self.s3.kill()
            self.s3.wait()


def main():
    rehearsal = Rehearsal(*(pathlib.Path(argument).resolve() for argument in sys.argv[1:4]))
    try:
        rehearsal.play()
    finally:
        rehearsal.close()


if __name__ == "__main__":
    main()
