"""Recomputes the tree head of an exported ledger from its records, with nothing of ours.

    python3 judge.py DIR

Reads C2SP tlog-tiles: the checkpoint, each bundle of records, each tile of hashes. Prints
`SIZE ROOT` and ends with 0 when records, chain, tiles and checkpoint all agree; says what does
not and ends with 1 otherwise. (The signature needs ed25519, which the standard library lacks.)
"""

import base64
import hashlib
import json
import pathlib
import sys


def fail(text):
    print(text)
    sys.exit(1)


def sha256(data):
    return hashlib.sha256(data).digest()


def tree_hash(leaves):
    """RFC 6962, section 2.1."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + tree_hash(leaves[:split]) + tree_hash(leaves[split:]))


def tile_path(root, level, index, width):
    name = f"{index % 1000:03}"
    while index >= 1000:
        index //= 1000
        name = f"x{index % 1000:03}/{name}"
    suffix = "" if width == 256 else f".p/{width}"
    return root / "tile" / str(level) / (name + suffix)


def tiles(root, level, count):
    """The bytes of the tiles that hold `count` things at a level."""
    for start in range(0, count, 256):
        path = tile_path(root, level, start // 256, min(256, count - start))
        if not path.is_file():
            fail(f"{path} is not there")
        yield path, path.read_bytes()


def read_records(root, size):
    for path, data in tiles(root, "entries", size):
        at = 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 2], "big")
            record = data[at + 2 : at + 2 + length]
            if len(record) != length:
                fail(f"{path} ends within a record")
            yield record
            at += 2 + length


def main(root):
    origin, size, head = (root / "checkpoint").read_text().split("\n")[:3]
    size = int(size)
    leaves, last = [], bytes(32)
    for seq, record in enumerate(read_records(root, size)):
        fields = json.loads(record)
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        if canonical.encode() != record:
            fail(f"record {seq} is not canonical")
        if fields["seq"] != seq or fields["prev"] != last.hex():
            fail(f"record {seq} does not follow the one before")
        last = sha256(b"\x00" + record)
        leaves.append(last)
    if len(leaves) != size:
        fail(f"{len(leaves)} records, the checkpoint says {size}")
    hashes, level = leaves, 0
    while hashes:
        if b"".join(data for _, data in tiles(root, level, len(hashes))) != b"".join(hashes):
            fail(f"the tiles of level {level} are not those of the records")
        full = range(0, len(hashes) - len(hashes) % 256, 256)
        hashes, level = [tree_hash(hashes[start : start + 256]) for start in full], level + 1
    computed = tree_hash(leaves)
    if computed != base64.b64decode(head):
        fail(f"the records make {computed.hex()}, the checkpoint of {origin} says otherwise")
    print(size, computed.hex())


main(pathlib.Path(sys.argv[1]))
