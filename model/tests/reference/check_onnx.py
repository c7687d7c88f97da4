"""Compares an ONNX export in onnxruntime with our own outputs.

    cargo run --release --example outputs -- WEIGHTS 320 2 /tmp/outputs.safetensors
    cargo run --release --bin ringmaster -- export --weights WEIGHTS --imgsz 320 --output /tmp/model.onnx
    python check_onnx.py /tmp/model.onnx /tmp/outputs.safetensors

Needs onnx, onnxruntime, numpy and safetensors. Fails when a score differs by more than 1e-4, or a box by more than 1e-4 of
its size (at least a pixel).
"""

import ast
import sys

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

path, stored = sys.argv[1:3]
onnx.checker.check_model(path, full_check=True)
expected = load_file(stored)
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
metadata = session.get_modelmeta().custom_metadata_map
names = ast.literal_eval(metadata["names"])
worst = [0.0, 0.0]
for batch in (len(expected["images"]), 1):
    (found,) = session.run(["output0"], {"images": expected["images"][:batch]})
    wanted = expected["output0"][:batch]
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    assert found.shape[1] == 4 + len(names), metadata
    boxes = np.abs(found[:, :4] - wanted[:, :4]) / np.maximum(np.abs(wanted[:, :4]), 1)
    worst = [max(worst[0], boxes.max()), max(worst[1], np.abs(found[:, 4:] - wanted[:, 4:]).max())]
print(f"{path}: {found.shape[1:]}, boxes {worst[0]:.2e}, scores {worst[1]:.2e}, {metadata['imgsz']}, {len(names)} classes")
sys.exit(max(worst) > 1e-4)
