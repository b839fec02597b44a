"""python -m tests.house [CHECKOUT]: how the packages of a checkout hang together, counted.

Per package: files, entries (modules and wings directly under it, `__init__` aside), floors (the
longest chain of imports between entries), arrows (pairs of entries of which one imports the other),
circles (groups of siblings, at any depth, that import each other), lines and forbidden names. An
import inside a function counts as any other; so does one for types only.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

PACKAGES: Final = ("lander", "sweeps", "analysis")
FORBIDDEN: Final = frozenset({"found", "told", "place", "there", "silence"})
"""A name says what it holds; these hold anything."""

Graph = Mapping[str, set[str]]


@dataclass(frozen=True)
class Package:
    """The modules of one package, and what each imports from it."""

    root: Path
    name: str

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Dotted name -> file."""
        files = sorted((self.root / self.name).rglob("*.py"))
        return {dotted(path, self.root): path for path in files}

    @cached_property
    def imports(self) -> Graph:
        """Module -> modules of this package that it imports anywhere in its text."""
        return {
            module: set(self._imported(ast.parse(path.read_text()))) - {module}
            for module, path in self.modules.items()
        }

    def _imported(self, tree: ast.Module) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name in self.modules)
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield from (name for name in (inner, node.module) if name in self.modules)

    def siblings(self, parent: str) -> Graph:
        """Modules and packages directly under `parent` -> siblings that they import."""
        depth = parent.count(".") + 1
        graph: defaultdict[str, set[str]] = defaultdict(set)
        for module, imported in self.imports.items():
            if not module.startswith(f"{parent}."):
                continue
            sibling = module.split(".")[depth]
            graph[sibling] |= {
                name.split(".")[depth] for name in imported if name.startswith(f"{parent}.")
            } - {sibling}
        return graph

    @property
    def entries(self) -> Graph:
        """What one sees under the package."""
        return self.siblings(self.name)

    @property
    def floors(self) -> int:
        return longest_chain(self.entries)

    @property
    def arrows(self) -> int:
        return sum(map(len, self.entries.values()))

    @property
    def circles(self) -> list[list[str]]:
        """Siblings that import each other, in the package and in every wing."""
        parents = {name.rpartition(".")[0] for name in self.modules if "." in name}
        return [
            [f"{parent}.{name}" for name in group]
            for parent in sorted(parents)
            for group in knots(self.siblings(parent))
        ]

    @property
    def lines(self) -> int:
        return sum(path.read_text().count("\n") for path in self.modules.values())

    def __str__(self) -> str:
        return (
            f"{self.name}: {len(self.modules)} files, {len(self.entries)} entries, "
            f"{self.floors} floors, {self.arrows} arrows, {len(self.circles)} circles, "
            f"{self.lines:,} lines"
        )


def dotted(path: Path, root: Path) -> str:
    """a/b/__init__.py -> a.b, a/b/c.py -> a.b.c"""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def reachable(graph: Graph, start: str) -> set[str]:
    """Whatever `start` imports, and what that imports."""
    seen: set[str] = set()
    waiting = [*graph[start]]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(graph.get(name, ()))
    return seen


def knots(graph: Graph) -> list[list[str]]:
    """Groups of names that all reach each other."""
    reach = {name: reachable(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in reach[name] if name in reach.get(other, ())))
        for name in graph
        if name in reach[name]
    }
    return [list(group) for group in sorted(groups)]


def longest_chain(graph: Graph) -> int:
    """How many names stand above each other, each importing the next; a circle is one of them."""
    reach = {name: reachable(graph, name) for name in graph}
    floors: dict[str, int] = {}

    def floor(name: str) -> int:
        if name not in floors:
            below = (other for other in reach[name] if name not in reach.get(other, ()))
            floors[name] = 1 + max((floor(other) for other in below if other in reach), default=0)
        return floors[name]

    return max(map(floor, graph), default=0)


def names(tree: ast.AST) -> Iterator[str]:
    """Every name of a variable, an argument, a function, a class or an attribute in a text."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
                yield name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
                yield name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.keyword(arg=str(name)):
                yield name


def forbidden(folder: Path) -> Iterator[str]:
    """FILE: NAME (how often), for every forbidden name under a folder."""
    for path in sorted(folder.rglob("*.py")):
        counts = Counter(name for name in names(ast.parse(path.read_text())) if name in FORBIDDEN)
        yield from (f"{path}: {name} ({count})" for name, count in sorted(counts.items()))


def main(argv: Sequence[str]) -> int:
    """Print the figures of a checkout; 0."""
    (root,) = map(Path, argv or ["."])
    packages = [Package(root, name) for name in PACKAGES]
    for package in packages:
        print(package)
        for circle in package.circles:
            print("  circle:", " <-> ".join(circle))
    print(f"product: {sum(package.lines for package in packages):,} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
