"""Writes image files of every kind into a folder, and what Pillow reads from them.

  python3 pillow_images.py FOLDER

An image NAME is FOLDER/NAME/images/NAME.png or .jpg, so that FOLDER/NAME is a folder with one class. Beside it come the
pixels, row by row: grey.u8 and colour.u8 as Pillow's convert("L") and convert("RGB") give them, grey.f64 and colour.f64 in
full depth (in the range of 8 bits: 16-bit values / 257), gamma.f64 in colour with the file's gamma applied. What is in
FOLDER already is read, too.
"""
import math
import pathlib
import random
import struct
import sys
import zlib

import numpy
from PIL import Image, PngImagePlugin

FOLDER = pathlib.Path(sys.argv[1])
RANDOM = random.Random(7)
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}    # by a PNG's colour type
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Adam7: x, y, step in x, step in y
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def place(name, extension):
    path = FOLDER / name / "images" / f"{name}.{extension}"
    path.parent.mkdir(parents=True)
    return path


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(rows, depth):
    """Rows of samples as a PNG stores them, unfiltered."""
    result = b""
    for row in rows:
        bits = "".join(f"{sample:0{depth}b}" for sample in row)
        bits += "0" * (-len(bits) % 8)
        result += b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return result


def write_png(name, width, height, colour, depth, interlaced=False, before=(), after=()):
    """A PNG written by hand: Pillow writes neither interlaced nor 16-bit colour files. Returns its samples.
    `before`, `after`: chunks around the palette."""
    n = CHANNELS[colour]
    rows = [[RANDOM.randrange(1 << depth) for _ in range(width * n)] for _ in range(height)]
    data = packed(rows, depth)
    if interlaced:
        data = b""
        for x, y, step_x, step_y in PASSES:
            if x < width and y < height:
                columns = range(x, width, step_x)
                data += packed([sum((row[j * n:j * n + n] for j in columns), []) for row in rows[y::step_y]], depth)
    palette = bytes(RANDOM.randrange(256) for _ in range(3 << depth)) if colour == 3 else b""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    chunks = [chunk(b"IHDR", header), *(chunk(*c) for c in before)]
    if palette:
        chunks.append(chunk(b"PLTE", palette))
    chunks += [*(chunk(*c) for c in after), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    place(name, "png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return numpy.array(rows).reshape(height, width, n)


def save(name, image, extension="png", **options):
    image.save(place(name, extension), **options)


def noise(mode, width=17, height=13):
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (width, height), bytes(RANDOM.randrange(256) for _ in range(width * height * bands)))


def photo(mode, width=61, height=37):
    """Smooth, with some edges: what JPEG is made for."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    y, x, c = numpy.mgrid[0:height, 0:width, 0:bands]
    values = 128 + 90 * numpy.sin(x / (5 + c) + c) * numpy.cos(y / (7 - c)) + 60 * ((x + 2 * y) % 23 < 7)
    return Image.frombytes(mode, (width, height), numpy.clip(values, 0, 255).astype(numpy.uint8).tobytes())


def gamma(value):
    return b"gAMA", struct.pack(">I", round(value * 100000))


wide = {}     # the samples of files with 16 bits, which Pillow does not keep
for colour, depths in DEPTHS.items():
    for depth in depths:
        for interlaced in (False, True):
            name = f"png-{colour}-{depth}" + ("-interlaced" if interlaced else "")
            wide[name] = write_png(name, 17, 13, colour, depth, interlaced)
for width, height in ((1, 1), (1, 9), (5, 1), (2, 3), (8, 8)):
    write_png(f"small-{width}x{height}", width, height, 2, 8, interlaced=True)

TRANSPARENT = {0: b"\0\1", 2: b"\0\1\0\2\0\3", 3: bytes((0, 128, 255))}
for colour, data in TRANSPARENT.items():
    for depth in DEPTHS[colour]:
        name = f"transparent-{colour}-{depth}"
        wide[name] = write_png(name, 17, 13, colour, depth, after=[(b"tRNS", data)])

gammas = {}
for colour, depths in DEPTHS.items():
    for depth in depths:
        for value in (1.0, 0.3):
            name = f"gamma-{value}-{colour}-{depth}"
            wide[name] = write_png(name, 17, 13, colour, depth, before=[gamma(value)])
            gammas[name] = value
wide["srgb"] = write_png("srgb", 17, 13, 2, 8, before=[(b"sRGB", b"\0"), gamma(0.45455)])
wide["chromaticities"] = write_png("chromaticities", 17, 13, 6, 16, before=[
    (b"cHRM", struct.pack(">8I", 34570, 35850, 73470, 26530, 15960, 84040, 3660, 10)), gamma(1.0)])
gammas["chromaticities"] = 1.0
write_png("background", 17, 13, 6, 8, after=[(b"bKGD", b"\0\xff\0\0\0\xff")])

for mode in ("L", "LA", "RGB", "RGBA"):
    save(f"pillow-{mode}", noise(mode))
save("pillow-1", noise("L").convert("1"))
for colours in (2, 3, 4, 16, 200, 256):
    save(f"pillow-P-{colours}", noise("RGB").quantize(colours))
save("pillow-P-one-transparent", noise("RGB").quantize(16), transparency=3)
save("pillow-P-half-transparent", noise("RGB").quantize(16), transparency=bytes(range(0, 240, 15)))
save("pillow-L-transparent", noise("L"), transparency=5)
save("pillow-RGB-transparent", noise("RGB"), transparency=(1, 2, 3))
for mode, kind in (("I;16", numpy.uint16), ("I", numpy.int32)):
    values = numpy.array([RANDOM.randrange(1 << 16) for _ in range(17 * 13)], dtype=kind).reshape(13, 17, 1)
    wide[f"pillow-{mode[0]}{mode[2:]}"] = values
    save(f"pillow-{mode[0]}{mode[2:]}", Image.frombytes(mode, (17, 13), values.tobytes()))
info = PngImagePlugin.PngInfo()
info.add(*gamma(1.0))
save("pillow-gamma", photo("RGB"), pnginfo=info)
gammas["pillow-gamma"] = 1.0

for progressive in (False, True):
    suffix = "-progressive" if progressive else ""
    save("jpeg-L" + suffix, photo("L"), "jpg", progressive=progressive)
    save("jpeg-CMYK" + suffix, photo("CMYK"), "jpg", progressive=progressive)
    for sampling, text in enumerate(("444", "422", "420")):
        for quality in (30, 95):
            save(f"jpeg-RGB-{text}-{quality}{suffix}", photo("RGB"), "jpg", subsampling=sampling, quality=quality,
                 progressive=progressive)
bare = (FOLDER / "jpeg-CMYK/images/jpeg-CMYK.jpg").read_bytes()       # the same without Adobe's marker
adobe = bare.index(b"\xff\xee")
after = adobe + 2 + int.from_bytes(bare[adobe + 2:adobe + 4], "big")
place("jpeg-CMYK-bare", "jpg").write_bytes(bare[:adobe] + bare[after:])


def grey_of(colour):
    return (colour * (299, 587, 114)).sum(axis=2, keepdims=True) / 1000


for path in FOLDER.glob("*/images/*"):
    folder, name = path.parent.parent, path.parent.parent.name
    image = Image.open(path)
    grey, colour = image.convert("L"), image.convert("RGB")
    full = numpy.asarray(colour).astype(float)
    full_grey = numpy.asarray(grey).astype(float)[:, :, None]
    if image.mode == "I":           # 16-bit grey: convert() cuts off all above 255
        eight = (wide[name][:, :, 0] >> 8).astype(numpy.uint8)
        grey = Image.fromarray(eight)
        colour = grey.convert("RGB")
    depth, kind = path.read_bytes()[24:26]
    if path.suffix == ".png" and depth == 16:
        full = wide[name] / 257
        full = full[:, :, :3] if full.shape[2] > 2 else numpy.repeat(full[:, :, :1], 3, axis=2)
        full_grey = grey_of(full)
    (folder / "grey.u8").write_bytes(grey.tobytes())
    (folder / "colour.u8").write_bytes(colour.tobytes())
    full_grey.tofile(folder / "grey.f64")
    full.tofile(folder / "colour.f64")
    exponent = 1 / (2.2 * gammas[name]) if name in gammas else 1
    (255 * (full / 255) ** exponent).tofile(folder / "gamma.f64")
