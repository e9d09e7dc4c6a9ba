"""Models of formats that whorl does not read are named, with the way to export them."""

from __future__ import annotations

import zipfile

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from safetensors.torch import save_file
from torch import nn

from whorl.attest.locks import lock
from whorl.checkpoints.opening import open_checkpoint
from whorl.errors import InvalidFile, WhorlError
from whorl.oracles.files import read_weights
from whorl.oracles.foreign import told_lock
from whorl.oracles.opening import open_oracle


def script(path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)


def exported(path):
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), path)


def keras(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, "{}")


WRITERS = {
    "net.pt": (script, "TorchScript"),
    "net.pt2": (exported, r"torch\.export"),
    "net.keras": (keras, "Keras"),
    "net.h5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20)), "HDF5"),
    "net.tflite": (lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(20)), "TensorFlow Lite"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_foreign_format_is_named_with_the_way_to_export_it(name, tmp_path):
    write, said = WRITERS[name]
    write(tmp_path / name)
    for path in (tmp_path / name, (tmp_path / name).rename(tmp_path / "other.pt")):
        if path.exists():
            with pytest.raises(InvalidFile, match=rf"is .*{said}.*(export|ONNX)") as caught:
                open_oracle(path)
            assert "\n" not in str(caught.value)
    with pytest.raises(InvalidFile, match=said):
        read_weights(tmp_path / "other.pt")


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors", "net.onnx", "net.skops"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS.*git lfs pull"),
        ("<!DOCTYPE html><html>" + "ö" * 600, "a web page, and no model"),
        ("the weights are on the\nother disk", "text, and no model"),
    ],
)
def test_text_is_called_text_whatever_its_name(name, content, said, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidFile, match=rf"{name} is {said}") as caught:
        open_oracle(tmp_path / name)
    assert str(caught.value).isprintable()


def test_a_locked_file_is_told_by_whoever_opens_files(tmp_path):
    key = X25519PrivateKey.generate()
    save_file({"a.weight": torch.zeros(8, 8)}, tmp_path / "net.safetensors")
    for name in ("net.locked", "locked.safetensors"):
        lock(tmp_path / "net.safetensors", tmp_path / name, [key.public_key()])
        for opened in (open_oracle, open_checkpoint):
            with pytest.raises(WhorlError, match=f"{name} is locked; .*whorl unlock"):
                opened(tmp_path / name)


def test_a_file_that_may_not_be_read_is_told_as_such(tmp_path, monkeypatch):
    save_file({"a.weight": torch.zeros(8, 8)}, tmp_path / "net.safetensors")
    opened = type(tmp_path).open

    def refused(path, *arguments, **options):
        if path.name == "net.safetensors":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(type(tmp_path), "open", refused)
    assert told_lock(tmp_path / "net.safetensors") == ""
