"""The notebooks of the documentation: run anew, and written with what they give.

python tests/notebooks.py        writes docs/notebooks/*.ipynb with their outputs
"""

import os
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


def executed(path: Path, folder: Path) -> Any:
    """A notebook, run cell by cell in a kernel of its own that works in some folder; a cell that fails raises."""
    notebook = nbformat.read(path, as_version=4)
    # The kernel inherits it: on small models two pools of threads wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        startup_timeout=180,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    for cell in notebook.cells:
        # Bars, and what libraries say while they load.
        outputs = cell.get("outputs", [])
        cell.get("metadata", {}).clear()
        if outputs:
            cell.outputs = [each for each in outputs if each.get("name") != "stderr"]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def printed(notebook: Any) -> list[str]:
    """The lines that its cells print, in order."""
    return [
        line.rstrip()
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
        for line in output["text"].splitlines()
    ]


if __name__ == "__main__":
    import sys
    import tempfile

    for name in sys.argv[1:] or sorted(map(str, FOLDER.glob("*.ipynb"))):
        with tempfile.TemporaryDirectory() as place:
            made = executed(Path(name), Path(place))
        nbformat.write(made, name)
        print(f"{name}: {Path(name).stat().st_size:,} bytes")
