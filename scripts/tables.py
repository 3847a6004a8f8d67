"""Writes the tables of parameters into docs/, each after its comment `<!-- make docs: NAME -->`."""

from __future__ import annotations

import re
from pathlib import Path

from heisd_ros.nodes.sim.sim_parameters import SimArmParameters
from heisd_ros.robot.cell_parameters import CellParameters
from heisd_ros.robot.declare import markdown_table, parameters_of
from heisd_ros.robot.parameters import VlaNodeParameters

DOCS = Path(__file__).parents[1] / "docs"
CELL = parameters_of(CellParameters)
PARAMETERS = {
    "vla_node": parameters_of(VlaNodeParameters),
    "sim_arm_node": parameters_of(SimArmParameters),
    "recording": [p for p in CELL if p.name.startswith("recording.")],
    "heisd_guard": [p for p in CELL if p.name.startswith("guard.")],
}


def written(text: str) -> str:
    """A document with its tables as the parameters are declared.

    Raises:
        KeyError: A comment names parameters that there are not.
    """
    return re.sub(
        r"(<!-- make docs: (\w+) -->\n\n)(?:\|.*\n)*",
        lambda found: f"{found[1]}{markdown_table(PARAMETERS[found[2]])}\n",
        text,
    )


if __name__ == "__main__":
    for file in DOCS.glob("*.md"):
        file.write_text(written(file.read_text(encoding="utf-8")), encoding="utf-8")
