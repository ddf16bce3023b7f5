"""Writes the reference cases that the tests compare sconce with: small graphs, their inputs, and what PyTorch answers.

usage: reference.py [NAME...]     writes tests/data/ops/FAMILY.pt, layers.pt, models.pt, resnet50_shapes.pt: all or those named

A case is a graph, written down while PyTorch computes it. Values are numbered in the order of their making: inputs, then
parameters, then nodes. The expected outputs are computed in float64 from the stored inputs and then rounded to float32,
so that the whole tolerance of a test is sconce's own. The float32 tensors of a case are views of one storage.

    {"torch": version, "cases": [{
        "name": str, "inputs": [tensor], "parameters": {name: tensor},
        "nodes": [{"op": str, "in": [number or None], "args": {str: value}}], "outputs": [number],
        "expected": [tensor], "terms": the length of the longest chain of sums, "pointwise": bool}]}
"""
import sys
from pathlib import Path

import torch

from reference_cases import chains, models, ops  # noqa: F401 (chains and ops fill FAMILIES)
from reference_cases.record import FAMILIES, Cases

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
OTHERS = {"layers": models.layers, "models": models.models, "resnet50_shapes": models.shapes}


def main():
    (DATA / "ops").mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or [*FAMILIES, *OTHERS]:
        if name in OTHERS:
            path, content = DATA / f"{name}.pt", OTHERS[name]()
        else:
            cases = Cases(name)
            FAMILIES[name](cases)
            path, content = DATA / "ops" / f"{name}.pt", {"torch": torch.__version__, "cases": cases.cases}
            print(f"{name}: {len(cases.cases)} cases, ", end="")
        torch.save(content, path)
        print(f"{path.name}: {path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()
