from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from written_pictures import NAMES, PER_CLASS, bomb, encode, keys, labelled, noise, write, write_noise

from whorl.data import PARTS, SOURCES
from whorl.data.parquet import CIFAR10, Cifar10, Parquet
from whorl.errors import InvalidFile, UsageError

COUNT = PER_CLASS * len(NAMES)


@pytest.fixture
def train(tmp_path: Path) -> str:
    return write_noise(tmp_path / "train.parquet", names=list(NAMES))


def test_one_file_is_divided_into_five_parts_that_share_no_picture(train: str) -> None:
    parts = {part: Parquet(train).load(part) for part in PARTS}
    for one, other in itertools.combinations(PARTS, 2):
        assert not keys(parts[one].images) & keys(parts[other].images)
    assert keys(torch.cat([part.images for part in parts.values()])) == {
        picture.transpose(2, 0, 1).tobytes() for picture in labelled()[0]
    }
    assert {name: len(part) for name, part in parts.items()} == {
        name: len(NAMES) * round(share * PER_CLASS) for name, share in PARTS.items()
    }


def test_every_picture_keeps_its_label_and_every_part_its_balance(train: str) -> None:
    pictures, labels = labelled()
    truth = {picture.transpose(2, 0, 1).tobytes(): label for picture, label in zip(pictures, labels, strict=True)}
    for part in PARTS:
        dataset = Parquet(train).load(part)
        assert dataset.images.dtype == torch.uint8
        assert dataset.classes == NAMES
        assert [truth[image.numpy().tobytes()] for image in dataset.images] == dataset.labels.tolist()
        assert len(set(dataset.labels.bincount(minlength=len(NAMES)).tolist())) == 1


def test_a_test_file_is_the_test_part_and_the_others_keep_their_proportions(tmp_path: Path, train: str) -> None:
    test = write_noise(tmp_path / "test.parquet", seed=1, names=list(NAMES))
    source = Parquet(train, test)
    assert keys(source.load("test").images) == {p.transpose(2, 0, 1).tobytes() for p in labelled(1)[0]}
    sizes = {part: len(source.load(part)) for part in PARTS if part != "test"}
    assert sum(sizes.values()) == COUNT
    for part, size in sizes.items():
        assert abs(size - COUNT * PARTS[part] / 0.9) <= len(NAMES)


def test_the_content_is_that_of_the_bytes_of_both_files(tmp_path: Path, train: str) -> None:
    copy = write_noise(tmp_path / "copy.parquet", names=list(NAMES))
    test = write_noise(tmp_path / "test.parquet", seed=1, names=list(NAMES))
    assert Parquet(train).content() == Parquet(copy, seed=1).content() != Parquet(test).content()
    assert Parquet(train, test).content() not in (Parquet(train).content(), Parquet(test, train).content())
    with pytest.raises(UsageError, match="no such file"):
        Parquet(str(tmp_path / "absent.parquet")).content()


def test_the_same_seed_gives_the_same_parts_and_another_seed_others(tmp_path: Path, train: str) -> None:
    copy = write_noise(tmp_path / "copy.parquet", names=list(NAMES))
    first, again, other = (
        Parquet(*given).load("victim") for given in [(train,), (copy,), (train, "", "", "", 0, 0, 1)]
    )
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert keys(first.images) != keys(other.images)


def test_a_picture_that_occurs_again_is_left_out(tmp_path: Path) -> None:
    encoded = [encode(picture) for picture in labelled()[0]]
    labels = labelled()[1]
    train = write(tmp_path / "train.parquet", encoded + encoded[:30], labels + labels[:30])
    assert sum(len(Parquet(train).load(part)) for part in PARTS) == COUNT
    test = write(tmp_path / "test.parquet", encoded[:30] + encoded[:1], labels[:30] + labels[:1])
    parts = {part: Parquet(train, test).load(part) for part in PARTS}
    assert len(parts["test"]) == 30
    assert sum(map(len, parts.values())) == COUNT
    assert len(keys(torch.cat([part.images for part in parts.values()]))) == COUNT


def test_the_expression_names_every_parameter_and_rebuilds_the_source(train: str) -> None:
    source = SOURCES.make(f'parquet("{train}", size=6, limit=100)')
    assert source.load("victim").expression == str(SOURCES.bind(f'parquet("{train}", limit=100, size=6)'))
    assert SOURCES.make(source.load("victim").expression) == source
    assert hash(SOURCES.make(source.load("victim").expression)) == hash(source)


def test_limit_keeps_the_first_rows_of_each_file(tmp_path: Path, train: str) -> None:
    source = Parquet(train, write_noise(tmp_path / "test.parquet", seed=1), limit=60)
    kept = torch.cat([source.load(part).images for part in PARTS if part != "test"])
    assert keys(kept) == {picture.transpose(2, 0, 1).tobytes() for picture in labelled()[0][:60]}
    assert len(source.load("test")) == 60


@pytest.mark.parametrize("columns", [("img", "labels"), ("image", "fine_label"), ("photo", "kind")])
def test_columns_are_found_by_their_usual_names_or_given(tmp_path: Path, columns: tuple[str, str]) -> None:
    file = write_noise(tmp_path / "train.parquet", columns=columns)
    given = columns if columns[0] == "photo" else ("", "")
    assert len(Parquet(file, image=given[0], label=given[1]).load("victim")) == 42


@pytest.mark.parametrize("names", [None, {"0": "ant"}, ["ant", "bee", "c\x1b[2J"], ["ant", "bee", 3], "ant"])
def test_without_fit_names_the_classes_are_numbered(tmp_path: Path, names: object) -> None:
    assert Parquet(write_noise(tmp_path / "t.parquet", names=names)).load("test").classes == ("0", "1", "2")


def test_a_class_that_the_first_rows_lack_is_still_a_class(tmp_path: Path) -> None:
    pictures, labels = labelled()
    file = write(tmp_path / "t.parquet", [encode(picture) for picture in pictures], sorted(labels))
    assert Parquet(file, limit=PER_CLASS).load("victim").classes == ("0", "1", "2")


def test_pictures_of_several_sizes_kinds_and_modes_become_one_size(tmp_path: Path) -> None:
    kinds = [
        ("PNG", "RGB"),
        ("JPEG", "RGB"),
        ("PNG", "L"),
        ("PNG", "RGBA"),
        ("GIF", "P"),
        ("BMP", "RGB"),
        ("WEBP", "RGB"),
    ]
    encoded = [
        encode(noise(1, size=(8 + row % 5, 20 - row % 7), seed=row)[0], *kinds[row % len(kinds)]) for row in range(40)
    ]
    file = write(tmp_path / "t.parquet", encoded, [0] * 40)
    assert Parquet(file, size=10).load("victim").input_shape == (3, 10, 10)
    with pytest.raises(
        UsageError, match=r"row 1 of .*t\.parquet has 19 x 9 pixels where the first .* 20 x 8; .*size=32"
    ):
        Parquet(file).load("victim")


def test_train_and_test_of_different_sizes_need_a_size(tmp_path: Path, train: str) -> None:
    test = write_noise(tmp_path / "test.parquet", seed=1, size=12)
    with pytest.raises(UsageError, match="differ in size"):
        Parquet(train, test).load("victim")
    assert Parquet(train, test, size=8).load("victim").input_shape == (3, 8, 8)


def test_resizing_crops_the_middle_square(tmp_path: Path) -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200
    file = write(tmp_path / "t.parquet", [encode(wide)] + [encode(p) for p in noise(20)], [0] * 21)
    images = torch.cat([Parquet(file, size=8).load(part).images for part in PARTS])
    assert (200 == images).all(dim=(1, 2, 3)).sum() == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"not a picture", "row 57 of .* is no readable picture"),
        (b"", r"row 57 of .* is no readable picture \(BMP, GIF, JPEG"),
        (encode(noise(1)[0])[:-40], "row 57 of .* is no readable picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "row 57 of .* is no readable picture"),
        (None, "row 57 of .* holds no picture: image.bytes is null"),
        (bomb(20_000, 20_000), "row 57 of .* (exceeds limit|20000 x 20000 pixels)"),
        (bomb(1, 50_000_001), "row 57 of .* has 1 x 50000001 pixels; at most 50,000,000 are decoded"),
    ],
)
def test_a_damaged_row_is_named_in_one_line(tmp_path: Path, row: bytes | None, reason: str) -> None:
    encoded: list[bytes | None] = [encode(picture) for picture in noise(60)]
    encoded[57] = row
    source = Parquet(write(tmp_path / "t.parquet", encoded, [0] * 60), size=8)
    with pytest.raises(InvalidFile, match=reason) as caught:
        source.load("victim")
    assert "\n" not in str(caught.value)


def test_sixteen_bits_a_channel_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((8, 8), 30_000, np.uint16)).save(tmp_path / "deep.png")
    file = write(tmp_path / "t.parquet", [(tmp_path / "deep.png").read_bytes()] * 9, [0] * 9)
    with pytest.raises(InvalidFile, match=r"row 0 of .* more than 8 bits a channel"):
        Parquet(file).load("victim")


@pytest.mark.parametrize(
    ("labels", "names", "error", "reason"),
    [
        ([0] * 9 + [-1], None, InvalidFile, "row 9 of .* has the label -1; with 1 classes it is 0 to 0"),
        ([0] * 9 + [7], ["a", "b"], InvalidFile, "row 9 of .* has the label 7; with 2 classes"),
        ([0] * 9 + [10**12], None, InvalidFile, "has the label 1000000000000; at most 100,000 classes"),
        ([0] * 9 + [None], ["a"], InvalidFile, "row 9 of .* has no label"),
        ([0.5] * 10, None, UsageError, "the column 'label' is double; whole numbers"),
        (["x"] * 10, None, UsageError, "the column 'label' is string; whole numbers"),
    ],
)
def test_a_wrong_label_is_named(
    tmp_path: Path, labels: list[object], names: object, error: type[Exception], reason: str
) -> None:
    file = write(tmp_path / "t.parquet", [encode(picture) for picture in noise(10)], labels, names=names)
    with pytest.raises(error, match=reason):
        Parquet(file).load("victim")


def test_a_label_that_train_lacks_is_refused_in_test(tmp_path: Path, train: str) -> None:
    test = write(tmp_path / "test.parquet", [encode(picture) for picture in noise(4, seed=5)], [0, 1, 2, 3])
    with pytest.raises(InvalidFile, match=r"row 3 of .*test\.parquet has the label 3; with 3 classes"):
        Parquet(train, test).load("test")


def test_a_damaged_file_ends_in_one_line(tmp_path: Path, train: str) -> None:
    whole = Path(train).read_bytes()
    middle = bytearray(whole)
    middle[len(whole) // 4 : len(whole) // 2] = bytes(len(whole) // 2 - len(whole) // 4)
    damaged = {"text": b"id,label\n1,2\n", "empty": b"", "cut": whole[: len(whole) // 2], "middle": bytes(middle)}
    for name, content in damaged.items():
        file = tmp_path / f"{name}.parquet"
        file.write_bytes(content)
        with pytest.raises(InvalidFile, match=rf"{name}\.parquet") as caught:
            Parquet(str(file)).load("victim")
        assert "\n" not in str(caught.value)


def test_what_cannot_be_used_is_refused_with_what_to_type(tmp_path: Path, train: str) -> None:
    with pytest.raises(UsageError, match=r"no such file: .*absent"):
        Parquet(str(tmp_path / "absent.parquet")).load("victim")
    with pytest.raises(UsageError, match="has no image column photo, but image, label; give image=NAME"):
        Parquet(train, image="photo").load("victim")
    with pytest.raises(UsageError, match="has no label column kind"):
        Parquet(train, label="kind").load("victim")
    with pytest.raises(UsageError, match="a struct with bytes is needed"):
        Parquet(train, image="label").load("victim")
    with pytest.raises(UsageError, match=r"without a size, a side has 4 to 512"):
        Parquet(write_noise(tmp_path / "tiny.parquet", size=2)).load("victim")
    for limit in (-1, True, 2.0):
        with pytest.raises(UsageError, match="limit="):
            Parquet(train, limit=limit)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="size=3"):
        Parquet(train, size=3)
    with pytest.raises(UsageError, match="no such part"):
        Parquet(train).load("train")


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    pictures = noise(120, size=32, seed=3)
    shards = {"train-0": pictures[:50], "train-1": pictures[50:100], "test-0": pictures[100:]}
    for name, chosen in shards.items():
        labels = [row % 10 for row in range(len(chosen))]
        write(tmp_path / f"{name}.parquet", [encode(picture) for picture in chosen], labels, columns=("img", "label"))
    return tmp_path


def test_cifar10_from_the_environment_keeps_the_place_out_of_its_expression(
    cifar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHORL_CIFAR10", str(cifar))
    parts = {part: Cifar10(seed=4).load(part) for part in PARTS}
    assert len(parts["test"]) == 20
    assert len(keys(torch.cat([part.images for part in parts.values()]))) == 120
    assert {part.classes for part in parts.values()} == {CIFAR10}
    assert {part.expression for part in parts.values()} == {'cifar10(path="", limit=0, seed=4)'}


def test_cifar10_from_a_path_limits_the_rows_of_each_split(cifar: Path) -> None:
    source = Cifar10(str(cifar), limit=60)
    assert len(source.load("test")) == 20
    assert sum(len(source.load(part)) for part in PARTS if part != "test") == 60
    assert source.load("test").expression == str(SOURCES.bind(f'cifar10("{cifar}", limit=60)'))


def test_cifar10_without_its_files_says_both_ways_to_give_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WHORL_CIFAR10", raising=False)
    for source in (Cifar10(seed=5), Cifar10(str(tmp_path))):
        with pytest.raises(UsageError, match=r"cifar10\(path=.* WHORL_CIFAR10=FOLDER"):
            source.load("test")
    with pytest.raises(UsageError, match="limit="):
        Cifar10(limit=-5)
