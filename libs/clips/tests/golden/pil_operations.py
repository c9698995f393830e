"""What the Python Imaging Library makes of a frame, for src/transform/operation_tests.rs:
`pip install pillow; python pil_operations.py > pil_operations.json`.

The frame is 12 x 12; its value at (x, y, channel) is 40 + (7 x x + 13 y + 3 x y + 50 c) % 173. The fill is (115, 100, 90).
Results are hexadecimal bytes, rows one after the other.
"""

import json

import PIL
from PIL import Image, ImageEnhance, ImageOps

SIDE, FILL = 12, (115, 100, 90)
VALUES = bytes(
    40 + (7 * x * x + 13 * y + 3 * x * y + 50 * c) % 173 for y in range(SIDE) for x in range(SIDE) for c in range(3)
)
FRAME = Image.frombytes("RGB", (SIDE, SIDE), VALUES)


def affine(*matrix):
    return FRAME.transform(FRAME.size, Image.AFFINE, matrix, resample=Image.BILINEAR, fillcolor=FILL)


def rotate(degrees):
    return FRAME.rotate(degrees, resample=Image.BILINEAR, fillcolor=FILL)


def solarize_add(add):
    return FRAME.point([min(255, i + add) if i < 128 else i for i in range(256)] * 3)


OPERATIONS = {
    "auto_contrast": (lambda _: ImageOps.autocontrast(FRAME), [0]),
    "equalize": (lambda _: ImageOps.equalize(FRAME), [0]),
    "invert": (lambda _: ImageOps.invert(FRAME), [0]),
    "rotate": (rotate, [27.0, -13.5]),
    "posterize": (lambda bits: ImageOps.posterize(FRAME, bits), [1, 3]),
    "solarize": (lambda threshold: ImageOps.solarize(FRAME, threshold), [26, 128]),
    "solarize_add": (solarize_add, [99]),
    "colour": (lambda factor: ImageEnhance.Color(FRAME).enhance(factor), [0.19, 1.81]),
    "contrast": (lambda factor: ImageEnhance.Contrast(FRAME).enhance(factor), [0.19, 1.81]),
    "brightness": (lambda factor: ImageEnhance.Brightness(FRAME).enhance(factor), [0.19, 1.81]),
    "sharpness": (lambda factor: ImageEnhance.Sharpness(FRAME).enhance(factor), [0.19, 1.81]),
    "shear_x": (lambda part: affine(1, part, 0, 0, 1, 0), [0.27, -0.135]),
    "shear_y": (lambda part: affine(1, 0, 0, part, 1, 0), [0.27, -0.135]),
    "translate_x": (lambda part: affine(1, 0, part * SIDE, 0, 1, 0), [0.405, -0.2]),
    "translate_y": (lambda part: affine(1, 0, 0, 0, 1, part * SIDE), [0.405, -0.2]),
}

cases = [
    {"operation": name, "value": value, "pixels": make(value).tobytes().hex()}
    for name, (make, values) in OPERATIONS.items()
    for value in values
]
print(json.dumps({"pillow": PIL.__version__, "cases": cases}, indent=1))
