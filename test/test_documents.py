"""What documents name of the repository is there: files, folders and tests."""

from __future__ import annotations

import re

import pytest
from support.tree import PACKAGE, ROOT

DOCUMENTS = [
    *sorted(ROOT.glob("docs/*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "config/README.md")),
]
# Folders that every checkout has; documents also name modules relative to heisd_ros/.
FOLDERS = {path.name for path in (*ROOT.iterdir(), *PACKAGE.iterdir()) if path.is_dir()}
FOLDERS -= {"out", "build", "log", "install"}
SUFFIXES = r"py|md|yaml|yml|xml|json|toml|sh|txt|rst|in|cmake|msg|action|urdf|html|svg|png|webp|gif"
PATH = re.compile(rf"(?<![\w./-])([\w.-]+/[\w./-]*(?:\.(?:{SUFFIXES})\b|(?<=/)))(?!\w)")


def named_paths(text):
    """Paths below a folder of the repository or the package; capitals are a placeholder."""
    paths = {path for path in PATH.findall(text) if path.split("/")[0] in FOLDERS}
    return sorted(path for path in paths if not re.search(r"(?:^|/)[A-Z_]+(?:\.|/|$)", path))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_exist(document):
    text = document.read_text(encoding="utf-8")
    missing = [
        path
        for path in named_paths(text)
        if not (ROOT / path).exists() and not (PACKAGE / path).exists()
    ]
    assert not missing, f"{document.name} names what is not there: {', '.join(missing)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_a_file_and_a_heading(document):
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", document.read_text("utf-8")):
        file, _, anchor = target.partition("#")
        page = document.parent / file if file else document
        assert page.exists(), f"{document.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = set(re.findall(r'<a name="([^"]+)">', page.read_text(encoding="utf-8")))
            anchors |= {
                re.sub(r"[^\w\- ]", "", line).replace(" ", "-").lower() for line in headings
            }
            assert anchor in anchors, f"{document.name} links to {target}"


def test_decisions_name_tests_by_their_whole_path():
    text = (ROOT / "docs/decisions.md").read_text(encoding="utf-8")
    assert "`test/" in text
    assert not re.findall(r"`test_\w+(?:\.py)?`", text)


@pytest.mark.parametrize(
    "path", ["test/no_such.py", "safety/gone.py", "docs/gone.md", "bench/gone/"]
)
def test_a_path_that_is_not_there_is_found(path):
    assert named_paths(f"see `{path}`, [it]({path}) and {path}.") == [path]
