"""Checks the licence of every dependency against the allow-list of deny.toml, offline.

A stand-in for `cargo deny check licenses` where cargo-deny is not installed: reads `cargo tree`, so it
sees what is built on this machine. Exits 1 and names each dependency that no allowed licence covers.
"""

import re
import subprocess
import sys


def allowed_by(text):
    """The strings of the list `allow` under [licenses]."""
    section = text.split("[licenses]", 1)[1]
    return set(re.findall(r'"([^"]+)"', re.search(r"^allow = \[(.*?)^\]", section, re.S | re.M)[1]))


def covered(expression, allowed):
    """Whether an SPDX expression (or the old form A/B) is met by the allowed licences alone."""
    # An exception grants more than its licence, so it never narrows what is allowed.
    plain = re.sub(r"\s+WITH\s+[\w.+-]+", "", expression)
    words = re.findall(r"\(|\)|/|[\w.+-]+", plain)
    terms = []
    for word in words:
        if word in ("OR", "/"):
            terms.append("or")
        elif word == "AND":
            terms.append("and")
        elif word in "()":
            terms.append(word)
        else:
            terms.append(str(word in allowed))
    return bool(terms) and eval(" ".join(terms))  # only True, False, and, or, brackets


def main():
    with open("deny.toml", encoding="utf-8") as file:
        allowed = allowed_by(file.read())
    tree = subprocess.run(
        ["cargo", "tree", "--locked", "--prefix", "none", "--no-dedupe", "--format", "{p}\t{l}"],
        check=True, capture_output=True, text=True,
    ).stdout
    lines = sorted(set(filter(None, tree.splitlines())))
    bad = [line for line in lines if not covered(line.split("\t", 1)[1], allowed)]
    for line in bad:
        package, licence = line.split("\t", 1)
        print(f"{package}: licence '{licence}' is not on the allow-list of deny.toml")
    if not bad:
        print(f"licences of {len(lines)} packages are on the allow-list")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
