"""Makes the golden files of R(2+1)D-18 from torchvision.

    pip install torch==2.11.0 torchvision==0.26.0 --index-url https://download.pytorch.org/whl/cpu
    python libs/models/tests/golden/torchvision_r2plus1d.py
"""

import torchvision
from exchange import write_keys, write_logits


def main() -> None:
    model = torchvision.models.video.r2plus1d_18(weights=None)
    write_keys("torchvision_r2plus1d_18", model)
    version = torchvision.__version__.split("+")[0]
    write_logits("torchvision_r2plus1d_18", model, [2, 3, 8, 56, 56], {"torchvision": version})


if __name__ == "__main__":
    main()
