"""The images without a registry: images.py PROGRAMS WEED FOLDER.

Makes Debian roots of the packages that `containers/Dockerfile` installs, puts the built programs in, and runs them as the
chart's pods: an address each, a read-only root, the chart's user, its probes, SIGTERM.
"""

import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import helm  # noqa: E402
from pods import Image  # noqa: E402
from rehearse import Rehearsal, say, wait  # noqa: E402

MIRROR = "http://deb.debian.org/debian"


def mirror():
    """Where this machine gets its Debian packages from."""
    for file in ["/etc/apt/sources.list", *map(str, pathlib.Path("/etc/apt/sources.list.d").glob("*"))]:
        if pathlib.Path(file).is_file():
            for found in re.findall(r"^[^#\n]*?(https?://\S+/debian)/?(?!\S)", pathlib.Path(file).read_text(), re.M):
                return found
    return MIRROR


def packages(target):
    """What the container file installs into an image."""
    body = (helm.ROOT / "containers/Dockerfile").read_text().split(f" AS {target}\n")[1]
    return re.search(r"--no-install-recommends (.+?) \\", body).group(1).split()


def build(target, programs, folder):
    """The root of an image; kept from one time to the next while its packages are the same."""
    root, wanted = folder / target, " ".join(packages(target))
    stamp = folder / f"{target}.packages"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(root, ignore_errors=True)
        command = ["debootstrap", "--variant=minbase", f"--include={wanted.replace(' ', ',')}", "bookworm", str(root), mirror()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        stamp.write_text(wanted)
    program = root / "usr/local/bin" / target
    subprocess.run(["strip", "--strip-debug", "-o", str(program), str(programs / target)], check=True)
    size = subprocess.run(["du", "-sm", str(root)], check=True, capture_output=True, text=True).stdout.split()[0]
    say(f"{target}: {size} MB with {wanted}, the program {program.stat().st_size >> 20} MB")
    return Image(root, path="/usr/local/bin:/usr/bin:/bin")


def check_rights(pod):
    """What the kernel says of a pod's program: whose it is, what it may do, where it may write."""
    number = pod.first()
    status = pathlib.Path(f"/proc/{number}/status").read_text()
    user = pod.spec["securityContext"]["runAsUser"]
    assert re.search(rf"^Uid:\s+{user}\s", status, re.M), "it runs as the chart's user"
    assert re.search(r"^CapEff:\s+0+$", status, re.M) and re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    mounts = pathlib.Path(f"/proc/{number}/mountinfo").read_text().splitlines()
    options = {line.split()[4]: line.split()[5].split(",") for line in mounts}
    written = {path for path, found in options.items() if "rw" in found and not path.startswith(("/proc", "/dev"))}
    assert written == {mount["mountPath"] for mount in pod.container["volumeMounts"] if not mount.get("readOnly")}, written


def play(rehearsal, images):
    rehearsal.images |= images
    rehearsal.server()
    rehearsal.fill()
    say("the loader's image cut and packed clips, with its own ffmpeg")
    pods = {component: rehearsal.pod(component) for component in images}
    for pod in pods.values():
        rehearsal.ready([pod])
        check_rights(pod)
    rehearsal.test()
    wait("the loader to open the data", lambda: "more workers (0 of 3 workers are here)\n" in pods["coordinator"].log.read_text())
    assert len({pod.address for pod in pods.values()}) == len(pods)
    say("both run as the chart's user on a read-only root, at addresses of their own; every probe succeeds")
    for component in reversed(images):
        code = pods[component].delete()
        assert code == 0, f"{component} ended with {code}: {pods[component].log.read_text()}"
        assert pods[component].codes in ([], [0]), "it was never started again"
    say("SIGTERM ends both with 0")


def main():
    programs, weed, folder = (pathlib.Path(argument).resolve() for argument in sys.argv[1:4])
    folder.mkdir(parents=True, exist_ok=True)
    images = {"coordinator": build("coordinator", programs, folder), "loader": build("dataloader", programs, folder)}
    rehearsal = Rehearsal(programs, weed, folder / "run")
    try:
        play(rehearsal, images)
    finally:
        rehearsal.close()


main()
