"""Unpacks files of a wheel: unpack.py WHEEL FOLDER RULES, with rules as JSON, [["file" | "folder" | "any_folder", from, to]]."""

import json
import os
import shutil
import sys
import zipfile


def place(name, rules):
    """Number of the first rule that matches the file and where it goes, or nothing."""
    for number, (kind, start, to) in enumerate(rules):
        if kind == "file" and name == start:
            return number, to
        if kind == "folder" and name.startswith(start):
            return number, to + name[len(start):]
        if kind == "any_folder" and start in name:
            return number, to + name.split(start, 1)[1]
    return None


def main(wheel, folder, rules):
    used = set()
    count = 0
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            name = entry.filename
            found = None if entry.is_dir() else place(name, rules)
            if found is None:
                continue
            number, to = found
            target = os.path.join(folder, to)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with archive.open(entry) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            if entry.external_attr >> 16 & 0o100:
                os.chmod(target, 0o755)
            used.add(number)
            count += 1
    for number, (kind, start, _) in enumerate(rules):
        if kind != "any_folder" and number not in used:
            sys.exit(f"nothing in the wheel matches {start}")
    print(f"{count} files")


main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
