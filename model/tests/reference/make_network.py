"""Makes network.json and unstripped.pt beside this file, from Ultralytics 8.4.190 with torch 2.9.0 on the CPU.

Set up and run as `make.py`. States and pictures are drawn from `noise` on both sides and not stored. The checkpoint's
tensors are views of one small storage, so that a whole model fits into a small file.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from make import noise
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import v8DetectionLoss

HERE = Path(__file__).parent
CLASSES = 5
HEIGHT, WIDTH, IMAGES = 192, 128, 2
TRUTHS = [
    [(0, (8.0, 16.0, 60.0, 90.0)), (3, (40.0, 30.0, 120.0, 180.0)), (4, (70.0, 100.0, 82.0, 110.0))],
    [(2, (0.0, 0.0, 128.0, 192.0)), (2, (20.0, 20.0, 44.0, 70.0))],
]


def draw_state(model):
    """Fills a model: tensor by tensor, parameters and buffers each counted in the order of the state dict."""
    with torch.no_grad():
        trained = [(name, value) for name, value in model.named_parameters() if ".dfl." not in name]
        for index, (name, value) in enumerate(trained):
            draws = noise(1000 + index, value.numel())
            if value.ndim == 4:
                values = draws * np.float32(4 / np.sqrt(value[0].numel()))
            elif name.endswith("bn.weight"):
                values = draws * np.float32(0.25) + np.float32(1)
            else:
                values = draws * np.float32(0.5)
            value.copy_(torch.from_numpy(values.reshape(value.shape)))
        buffers = [(name, value) for name, value in model.named_buffers() if "running" in name]
        for index, (name, value) in enumerate(buffers):
            draws = noise(5000 + index, value.numel())
            values = draws * np.float32(0.5) + np.float32(name.endswith("var"))
            value.copy_(torch.from_numpy(values))


def samples(tensor, step):
    values = tensor.detach().flatten()
    return [values[i].item() for i in range(0, values.numel(), step)]


def network_case(name):
    model = DetectionModel(f"{name}.yaml", nc=CLASSES, verbose=False)
    draw_state(model)
    # No parameter but the head's fixed projection stays out of training.
    pixels = np.floor((noise(900, IMAGES * 3 * HEIGHT * WIDTH) + np.float32(0.5)) * np.float32(256)).astype(np.float32)
    images = torch.from_numpy(pixels.reshape(IMAGES, 3, HEIGHT, WIDTH)) / 255
    model.eval()
    with torch.no_grad():
        decoded, raw = model(images)
    centres, extents = decoded[:, :2], decoded[:, 2:4]
    boxes = torch.cat([centres - extents / 2, centres + extents / 2], 1).permute(0, 2, 1)
    case = {
        "name": name,
        "distances": samples(raw["boxes"].permute(0, 2, 1), 23),
        "scores": samples(raw["scores"].permute(0, 2, 1), 3),
        "boxes": samples(boxes, 3),
        "probabilities": samples(decoded[:, 4:].permute(0, 2, 1), 3),
    }
    model.train()
    model.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)
    criterion = v8DetectionLoss(model)
    normaliser = {}
    assigner = criterion.assigner.forward

    def capture(*args, **kwargs):
        assigned = assigner(*args, **kwargs)
        normaliser["sum"] = assigned[2].sum().item()
        return assigned

    criterion.assigner.forward = capture
    rows = [(i, c, *box) for i, boxes in enumerate(TRUTHS) for c, box in boxes]
    rows = torch.tensor(rows, dtype=torch.float32)
    low, high = rows[:, 2:4], rows[:, 4:6]
    sides = torch.tensor([WIDTH, HEIGHT], dtype=torch.float32)
    batch = {
        "batch_idx": rows[:, 0],
        "cls": rows[:, 1:2],
        "bboxes": torch.cat([(low + high) / 2 / sides, (high - low) / sides], 1),
    }
    loss, _ = criterion(model(images), batch)
    loss.sum().backward()
    scale = max(normaliser["sum"], 1.0) / IMAGES
    parameters = [(name, value) for name, value in model.named_parameters() if ".dfl." not in name]
    chosen = [0, 1, 2, len(parameters) // 2, len(parameters) // 2 + 1, len(parameters) - 2, len(parameters) - 1]
    attention = [i for i, (name, _) in enumerate(parameters) if ".attn." in name]
    gradients = []
    for index in sorted(chosen + attention):
        name, value = parameters[index]
        gradient = (value.grad if value.grad is not None else torch.zeros_like(value)) * scale
        if gradient.norm() < 1e-4:
            # Zero but for rounding: a shift that the next normalisation takes away.
            continue
        step = max(1, gradient.numel() // 60)
        gradients.append([name, gradient.double().norm().item(), step, samples(gradient, step)])
    return case | {
        "truths": [[[c, *box] for c, box in boxes] for boxes in TRUTHS],
        "sums": [value * scale for value in loss.tolist()],
        "normaliser": normaliser["sum"],
        "gradients": gradients,
    }


def state_dict_digest(name):
    """Counts the entries, and hashes names and shapes in order (FNV-1a, 64 bits)."""
    state = DetectionModel(f"{name}.yaml", nc=80, verbose=False).state_dict()
    digest = 0xCBF29CE484222325
    for key in sorted(state):
        text = f"{key} {' '.join(map(str, state[key].shape))}\n"
        for byte in text.encode():
            digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return [name, len(state), f"{digest:016x}"]


def checkpoint():
    """A checkpoint as training leaves it: moving average, optimizer, loss; class names repeat."""
    model = DetectionModel("yolo11n.yaml", nc=3, verbose=False)
    model.names = {0: "a", 1: "b", 2: "a"}
    model.args = {"box": 7.5, "cls": 0.5, "dfl": 1.5}
    largest = max(value.numel() for value in model.state_dict().values())
    storage = torch.from_numpy(noise(70, largest) + np.float32(1)).half()
    for module in model.modules():
        for key, value in list(module._parameters.items()):
            if value is not None:
                view = storage[: value.numel()].view(value.shape)
                module._parameters[key] = torch.nn.Parameter(view, requires_grad=value.requires_grad)
        for key, value in list(module._buffers.items()):
            if value is not None and value.is_floating_point():
                module._buffers[key] = storage[: value.numel()].view(value.shape)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)
    model.criterion = v8DetectionLoss(model)
    content = {
        "epoch": 3,
        "best_fitness": np.float64(0.25),
        "model": None,
        "ema": model,
        "updates": 17,
        "optimizer": optimizer.state_dict(),
        "train_args": {"imgsz": 320, "model": "yolo11n.yaml"},
        "date": "2025-01-01",
        "version": "8.4.190",
    }
    torch.save(content, HERE / "unstripped.pt")


if __name__ == "__main__":
    families = [f"{family}{size}" for family in ["yolov8", "yolo11"] for size in "nsmlx"]
    content = {
        "state_dicts": [state_dict_digest(name) for name in families],
        "networks": [network_case(name) for name in ["yolov8n", "yolo11n"]],
    }
    text = json.dumps(content, separators=(",", ":"))
    (HERE / "network.json").write_text(text.replace("],[", "],\n[") + "\n")
    checkpoint()
    for file in ["network.json", "unstripped.pt"]:
        print(file, (HERE / file).stat().st_size, "bytes")
