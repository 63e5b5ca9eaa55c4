"""Mutations: behaviours that `scripts/requirements --mutate` switches off, to see that a test notices.

A mutation names a piece of source text and what stands there instead. All of them are built at once, each as
`if mutation::is_on(7) { replacement } else { original }` in a copy of the sources, so that switching one on costs a run of its
row's tests and no build. So what is replaced must be an expression or a statement, not a pattern or a constant's value.
"""

import os
import re
import subprocess
import time
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Mutation:
    """One behaviour, switched off."""

    rows: list[str]
    """Rows whose tests must fail."""
    file: str
    at: str
    """Text that is in the file once."""
    off: str
    """What does not happen any more."""
    new: str
    old: str = ""
    """The part of `at` that is replaced; all of it if empty."""

    @property
    def name(self) -> str:
        return f"{'/'.join(self.rows)} ({self.off})"

    def span(self, source: str) -> tuple[int, int]:
        """Where the replaced text is."""
        old = self.old or self.at
        begin = source.index(self.at) + self.at.index(old)
        return begin, begin + len(old)


def read(root: Path) -> list[Mutation]:
    with open(root / "scripts/mutations.toml", "rb") as file:
        return [Mutation(**mutation) for mutation in tomllib.load(file)["mutation"]]


def check(root: Path, mutations: list[Mutation]) -> list[str]:
    """Mutations whose text is not there, or not once."""
    problems = []
    for mutation in mutations:
        path = root / mutation.file
        source = path.read_text() if path.exists() else ""
        if source.count(mutation.at) != 1:
            problems.append(f"{mutation.name}: found {source.count(mutation.at)} times in {mutation.file}: {mutation.at}")
        elif mutation.old and mutation.at.count(mutation.old) != 1:
            problems.append(f"{mutation.name}: `old` is not in `at` once")
    return problems


def run(root: Path, target: Path, mutations: list[Mutation], rows: set[str]) -> list[str]:
    """Switches on, one by one, those of `rows`. Returns what no test noticed."""
    # All are built whichever are asked for: the next call builds nothing.
    numbered = list(enumerate(mutations, 1))
    files = sources(root)
    if problems := plant(files, numbered):
        return problems
    # Beside the target directory's own contents, and with one of its own: it is another program.
    copy = target / "mutants/source"
    write(copy, files)
    tests = Tests(copy, target / "mutants/target")
    print(f"building a copy with {len(mutations)} mutations, all off", flush=True)
    if not tests.build():
        return ["the copy with all mutations does not build: see above"]
    if failing := tests.run(sorted({row for mutation in mutations for row in mutation.rows} & rows), number=0):
        return [f"with all mutations off this fails: {failing}"]
    switched = 0
    for number, mutation in numbered:
        for row in [row for row in mutation.rows if row in rows]:
            switched += 1
            began = time.monotonic()
            killer = tests.run([row], number)
            state = "killed" if killer else "SURVIVED"
            seconds = time.monotonic() - began
            print(f"[{number:3}/{len(mutations)}] {row:<6}{state:<9}{seconds:5.1f} s  {mutation.off} <- {killer}", flush=True)
            if not killer:
                problems.append(f"{mutation.name} survived the tests of {row}: {mutation.file}")
    print(f"{switched} switched off, {switched - len(problems)} killed, {len(problems)} survived")
    return problems


def sources(root: Path) -> dict[str, bytes]:
    """What git knows of, and what is new."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True).stdout.decode()
    return {name: (root / name).read_bytes() for name in listed.split("\0") if name and (root / name).is_file()}


def plant(files: dict[str, bytes], numbered: list[tuple[int, Mutation]]) -> list[str]:
    """Puts all mutations into `files`, each behind its switch."""
    by_file: dict[str, dict[tuple[int, int], list[tuple[int, Mutation]]]] = defaultdict(lambda: defaultdict(list))
    for number, mutation in numbered:
        by_file[mutation.file][mutation.span(files[mutation.file].decode())].append((number, mutation))
    problems, crates = [], set()
    for name, by_span in by_file.items():
        source = files[name].decode()
        behind = len(source)
        for (begin, end), switches in sorted(by_span.items(), reverse=True):
            if end > behind:
                problems.append(f"{switches[0][1].name}: overlaps another mutation of {name}")
                continue
            behind = begin
            arms = "".join(f"if crate::{SWITCH}::is_on({number}) {{ {mutation.new} }} else " for number, mutation in switches)
            arm = f"{arms}{{ {source[begin:end]} }}"
            # A statement ends itself; an expression may stand anywhere.
            arm = arm if source[begin:end].rstrip().endswith(";") else f"({arm})"
            source = without_const(source[:begin]) + arm + source[end:]
        files[name] = source.encode()
        crates.add(name.split("/src/")[0] + "/src")
    for crate in crates:
        files[f"{crate}/{SWITCH}.rs"] = SWITCH_SOURCE.encode()
        files[f"{crate}/lib.rs"] += f"\n#[doc(hidden)]\npub mod {SWITCH};\n".encode()
    return problems


def write(copy: Path, files: dict[str, bytes]) -> None:
    """Makes `copy` consist of `files`, and touches only what differs, for the sake of the next build."""
    for name, content in files.items():
        path = copy / name
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    for path in [path for path in copy.rglob("*") if path.is_file()]:
        if str(path.relative_to(copy)) not in files:
            path.unlink()


def without_const(before: str) -> str:
    """The function that `before` ends in cannot be `const` any more; no text moves."""
    last = list(re.finditer(r"\b(?:const )?fn \w+", before))[-1]
    name = last[0].removeprefix("const ")
    return before[: last.start()] + name.rjust(len(last[0])) + before[last.end() :]


class Tests:
    """The tests of the copy."""

    def __init__(self, copy: Path, target: Path) -> None:
        self.copy = copy
        flags = f"{os.environ.get('RUSTFLAGS', '')} --cap-lints=allow"
        self.environment = os.environ | {"CARGO_TARGET_DIR": str(target), "RUSTFLAGS": flags.strip(), "NEXTEST_PROFILE": "mutation"}

    def build(self) -> bool:
        return self.nextest(["--no-run"], number=0, output=None).returncode == 0

    def run(self, rows: list[str], number: int) -> str:
        """Runs the tests of `rows` with mutation `number` on; the name of one that failed, or nothing."""
        prefixes = "|".join(row.lower().replace("-", "_") for row in rows)
        filterset = rf"test(/(^|::)([a-z]_\d{{2}}[a-z]?_)*({prefixes})_/)"
        outcome = self.nextest(["--filterset", filterset], number, subprocess.PIPE)
        if outcome.returncode == 0:
            return ""
        failed = re.search(r"(?:FAIL|TIMEOUT|SIG\w+|ABORT) \[.*?\] (?:\(.*?\) )?(.*)", outcome.stdout)
        if outcome.returncode != TESTS_FAILED or failed is None:
            raise SystemExit(f"requirements: the copy's tests of {' '.join(rows)} did not run:\n{outcome.stdout}")
        return failed[1]

    def nextest(self, arguments: list[str], number: int, output: int | None) -> subprocess.CompletedProcess:
        packages = [word for package in PACKAGES for word in ("--package", package)]
        return subprocess.run(
            ["cargo", "nextest", "run", "--color", "never", *packages, *arguments],
            cwd=self.copy,
            env=self.environment | {"ALGATE_MUTATION": str(number)},
            stdout=output,
            stderr=output and subprocess.STDOUT,
            text=True,
            check=False,
        )


PACKAGES = ["algate-config", "algate-alg", "algate-engine"]
# cargo-nextest's exit code.
TESTS_FAILED = 100
SWITCH = "mutation_switch"
SWITCH_SOURCE = """//! Which mutation is on.

/// Whether `number` is.
pub fn is_on(number: u32) -> bool {
    static ON: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    let read = || std::env::var("ALGATE_MUTATION").ok().and_then(|number| number.parse().ok()).unwrap_or(0);
    *ON.get_or_init(read) == number
}
"""
