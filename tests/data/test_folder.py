from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from written_pictures import NAMES, bomb, encode, keys, noise

from whorl.data import PARTS, SOURCES
from whorl.data.folder import Folder
from whorl.errors import InvalidFile, UsageError

EACH = 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """`EACH` pictures of 8 x 8 pixels in a sub-folder of each of `NAMES`, made in another order."""
    folder = tmp_path / "pictures"
    for seed, name in reversed(list(enumerate(NAMES))):
        (folder / name).mkdir(parents=True)
        for number, picture in enumerate(noise(EACH, seed=seed)):
            (folder / name / f"{number}.png").write_bytes(encode(picture))
    return folder


def test_parts_share_no_picture_and_lose_none(root: Path) -> None:
    parts = {part: Folder(str(root), size=8).load(part) for part in PARTS}
    for one, other in itertools.combinations(PARTS, 2):
        assert not keys(parts[one].images) & keys(parts[other].images)
    expected = {p.transpose(2, 0, 1).tobytes() for seed in range(len(NAMES)) for p in noise(EACH, seed=seed)}
    assert keys(torch.cat([part.images for part in parts.values()])) == expected
    assert {name: len(part) for name, part in parts.items()} == {
        name: len(NAMES) * round(share * EACH) for name, share in PARTS.items()
    }


def test_a_class_is_the_name_of_the_sub_folder(root: Path) -> None:
    dataset = Folder(str(root), size=8).load("victim")
    assert dataset.classes == NAMES
    assert dataset.images.dtype == torch.uint8
    for label in range(len(NAMES)):
        truth = {picture.transpose(2, 0, 1).tobytes() for picture in noise(EACH, seed=label)}
        assert keys(dataset.images[dataset.labels == label]) < truth


def test_the_same_seed_gives_the_same_pictures_and_another_seed_others(root: Path) -> None:
    moved = root.rename(root.with_name("moved"))
    first, again, other = (
        Folder(str(path), 8, seed).load("test") for path, seed in [(moved, 0), (f"{moved}/", 0), (moved, 1)]
    )
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert keys(first.images) != keys(other.images)


def test_the_expression_rebuilds_the_source(root: Path) -> None:
    text = Folder(str(root), size=8).load("victim").expression
    assert text == str(SOURCES.bind(f'folder("{root}", size=8)'))
    assert SOURCES.make(text) == Folder(str(root), size=8)


def test_the_content_is_that_of_all_names_and_bytes_wherever_they_lie(root: Path) -> None:
    here = SOURCES.make(f"folder({root}, size=8)").content()
    moved = root.rename(root.with_name("moved"))
    assert SOURCES.make(f"folder({moved}, size=16)").content() == here
    (moved / "ant" / "0.png").rename(moved / "ant" / "again.png")
    renamed = moved.rename(root.with_name("renamed"))
    (renamed / "ant" / "notes.txt").write_text("no picture")
    assert (other := SOURCES.make(f"folder({renamed})").content()) != here
    (renamed / "ant" / "again.png").write_bytes(encode(noise(1, seed=50)[0]))
    assert SOURCES.make(f"folder({renamed.rename(root.with_name('last'))})").content() not in (here, other)
    assert SOURCES.make("digits").content() == ""
    with pytest.raises(UsageError, match="no such folder"):
        SOURCES.make("folder(./nowhere)").content()


def test_pictures_need_not_be_square(root: Path) -> None:
    wide = noise(1, size=(10, 30), seed=9)[0]
    (root / "ant" / "wide.png").write_bytes(encode(wide))
    source = SOURCES.make(f"folder({root}, size=[6, 12])")
    parts = [source.load(part) for part in PARTS]
    assert {part.input_shape for part in parts} == {(3, 6, 12)}
    assert parts[0].expression == f'folder(path="{root}", size=[6, 12], seed=0)'
    across = Image.fromarray(wide).resize((12, 6), Image.Resampling.BILINEAR, box=(5, 0, 25, 10))
    assert np.array(across).transpose(2, 0, 1).tobytes() in keys(torch.cat([part.images for part in parts]))
    with pytest.raises(UsageError, match=r"size is a whole number from 4 to 512 or two as \[height, width\]"):
        SOURCES.make(f"folder({root}, size=[6, 12, 3])")


def test_the_shorter_side_takes_the_size_and_the_middle_is_kept(root: Path) -> None:
    wide, tall = noise(1, size=(10, 30), seed=9)[0], noise(1, size=(50, 5), seed=9)[0]
    (root / "ant" / "wide.PNG").write_bytes(encode(wide))
    (root / "bee" / "deep" / "deeper").mkdir(parents=True)
    (root / "bee" / "deep" / "deeper" / "tall.tif").write_bytes(encode(tall, "TIFF"))
    parts = [Folder(str(root), size=16).load(part) for part in PARTS]
    assert {part.input_shape for part in parts} == {(3, 16, 16)}
    assert sum(map(len, parts)) == EACH * len(NAMES) + 2
    images = torch.cat([part.images for part in parts]).int()
    across = Image.fromarray(wide).resize((48, 16), Image.Resampling.BILINEAR).crop((16, 0, 32, 16))
    down = Image.fromarray(tall).resize((16, 160), Image.Resampling.BILINEAR).crop((0, 72, 16, 88))
    for picture in (across, down):
        expected = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        assert (images - expected).abs().amax(dim=(1, 2, 3)).min() <= 1  # rounded once more on the way


def test_what_is_no_picture_is_passed_over(root: Path) -> None:
    (root / "README.md").write_text("pictures")
    (root / "ant" / "notes.txt").write_text("pictures")
    (root / "ant" / ".hidden.png").write_text("no picture")
    (root / ".cache").mkdir()
    (root / ".cache" / "a.png").write_text("no picture")
    assert sum(len(Folder(str(root)).load(part)) for part in PARTS) == EACH * len(NAMES)


def test_copies_of_a_picture_count_once(root: Path) -> None:
    for number in range(EACH):
        (root / "cat" / f"copy{number}.png").write_bytes((root / "ant" / f"{number}.png").read_bytes())
    (root / "bee" / "linked.png").symlink_to(root / "bee" / "0.png")
    parts = [Folder(str(root), size=8).load(part) for part in PARTS]
    assert sum(map(len, parts)) == len(keys(torch.cat([part.images for part in parts]))) == EACH * len(NAMES)


def _outside_file(root: Path) -> None:
    (root.parent / "secret.png").write_bytes(encode(noise(1)[0]))
    (root / "ant" / "leak.png").symlink_to(root.parent / "secret.png")


def _outside_folder(root: Path) -> None:
    (root.parent / "elsewhere").mkdir()
    (root / "dog").symlink_to(root.parent / "elsewhere")


def _outside_deeper(root: Path) -> None:
    (root / "ant" / "up").symlink_to("../..")


def _dangling(root: Path) -> None:
    (root / "ant" / "lost.png").symlink_to(root / "ant" / "absent.png")


def _pipe(root: Path) -> None:
    os.mkfifo(root / "ant" / "pipe.png")


def _text(root: Path) -> None:
    (root / "ant" / "bad.png").write_text("no picture")


def _cut(root: Path) -> None:
    (root / "ant" / "bad.jpg").write_bytes(encode(noise(1, size=64)[0], "JPEG")[:-900])


def _bomb(root: Path) -> None:
    (root / "ant" / "bomb.png").write_bytes(bomb(10_000, 6_000))


def _deep(root: Path) -> None:
    Image.fromarray(np.full((8, 8), 30_000, np.uint16)).save(root / "ant" / "deep.png")


def _escape(root: Path) -> None:
    (root / "dog\x1b[2J").mkdir()
    (root / "dog\x1b[2J" / "0.png").write_bytes(encode(noise(1)[0]))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_outside_file, r"ant/leak\.png is a link that leaves .*pictures\. "),
        (_outside_folder, "dog is a link that leaves"),
        (_outside_deeper, "ant/up is a link that leaves"),
        (_dangling, r"lost\.png is not a regular file"),
        (_pipe, r"pipe\.png is not a regular file"),
        (_text, r"bad\.png is no readable picture"),
        (_cut, r"bad\.jpg is no readable picture: .*truncated"),
        (_bomb, r"bomb\.png has 10000 x 6000 pixels; at most 50,000,000 are decoded"),
        (_deep, r"deep\.png has more than 8 bits a channel"),
        (_escape, "needs a name that can be printed"),
    ],
)
def test_one_bad_file_ends_in_one_line_that_names_it(root: Path, harm: Callable[[Path], None], reason: str) -> None:
    harm(root)
    with pytest.raises(InvalidFile, match=reason) as caught:
        Folder(str(root)).load("victim")
    assert str(caught.value).isprintable()


def test_what_cannot_be_used_is_refused_with_what_to_give(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder: 'absent'"):
        Folder("absent").load("victim")
    with pytest.raises(UsageError, match="holds no picture in a sub-folder"):
        Folder(str(root / "ant")).load("victim")
    with pytest.raises(UsageError, match="size=0"):
        Folder(str(root), size=0)
    (root / "dog").mkdir()
    with pytest.raises(UsageError, match="dog holds no picture; add some"):
        Folder(str(root)).load("victim")


def test_a_part_without_a_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "one.png").write_bytes(encode(noise(1)[0]))
    source = Folder(str(tmp_path))
    with pytest.raises(UsageError, match=r"the part 'test' of .* holds no picture"):
        source.load("test")
