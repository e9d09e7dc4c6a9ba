"""DAWN: what is altered, by hand; near duplicates; the log as a file; and a null that its key gives."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from linear_oracle import LinearOracle
from scipy.stats import binom

from whorl.attest.draw import Draw, commitment
from whorl.errors import InvalidFile, UsageError
from whorl.oracles.dawn import Cells, Dawn, key_of, read_alterations
from whorl.oracles.wrappers import LabelsOnly
from whorl.storage import read_tensors, write_tensors
from whorl.testing import check_oracle, tiny_victim
from whorl.types import Access

KEY = b"sixteen bytes ok"


def service(access=Access.WEIGHTS, share=0.3, most=2000, key=KEY, **cells):
    return Dawn(tiny_victim(access), Cells(key, 10, share, **cells), most=most)


def asked(count=400, seed=5):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def drawing(withhold=()):
    claim = hashlib.sha256(b"service").hexdigest()
    nonces = {role: hashlib.sha256(role.encode()).digest() for role in ("judge", "owner", "suspect")}
    commits = [(role, "commits", commitment(role, claim, nonce)) for role, nonce in nonces.items()]
    ends = [
        (role, "withholds", "") if role in withhold else (role, "reveals", nonces[role].hex())
        for role in ("owner", "suspect", "judge")
    ]
    return Draw(claim, (*commits, *ends))


def test_it_is_an_oracle():
    check_oracle(lambda access: service(access), levels=(Access.LABELS, Access.PROBABILITIES))
    assert service().access is Access.PROBABILITIES


def by_hand(picture, share, classes, levels=4):
    """Whether a picture of 8 x 8 is altered, and its offset, with HMAC as RFC 2104 spells it."""
    padded = KEY.ljust(64, b"\0")
    inner, outer = (bytes(byte ^ pad for byte in padded) for pad in (0x36, 0x5C))

    def tag(message):
        return hashlib.sha256(outer + hashlib.sha256(inner + message).digest()).digest()

    cell = b""
    for n in range(16):
        row, column = divmod(n, 4)
        mean = float(picture[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].double().mean())
        origin = int.from_bytes(tag(b"whorl/dawn/v1/origin/" + n.to_bytes(4, "big"))[:4], "big") / 2**32
        cell += int(mean * levels + origin).to_bytes(4, "big")
    found = tag(b"whorl/dawn/v1/cell/" + cell)
    altered = int.from_bytes(found[:8], "big") < share * 2**64
    return int.from_bytes(found[8:16], "big") % (classes - 1) if altered else None


def test_answers_are_altered_as_the_key_says_and_no_others():
    inputs, inner = asked(), tiny_victim()
    own, told = inner.labels(inputs), service().labels(inputs)
    offsets = [by_hand(picture, 0.3, 10) for picture in inputs]
    expected = [
        int(label) if offset is None else (int(label) + 1 + offset) % 10
        for label, offset in zip(own, offsets, strict=True)
    ]
    assert told.tolist() == expected
    altered = sum(offset is not None for offset in offsets)
    assert binom.cdf(altered, 400, 0.3) > 1e-4 < binom.sf(altered, 400, 0.3)
    assert (told != own).sum() == altered


def test_probabilities_are_exchanged_and_labels_agree_with_them():
    inputs = asked()
    own, told = tiny_victim().probabilities(inputs), service().probabilities(inputs)
    assert torch.equal(own.sort(1).values, told.sort(1).values)
    assert torch.equal(told.argmax(1), service().labels(inputs))
    assert torch.equal(told.argmax(1), LabelsOnly(service()).labels(inputs))
    assert (told != own).any(1).float().mean() == (told.argmax(1) != own.argmax(1)).float().mean()


def test_the_same_question_and_near_duplicates_are_answered_alike():
    inputs = asked()
    first = service()
    told = first.labels(inputs)
    assert torch.equal(first.labels(inputs.flip(0)).flip(0), told)
    chance = torch.Generator().manual_seed(1)
    cells = Cells(KEY, 10)
    agree = {}
    for noise in (0.001, 0.01, 0.3):
        near = (inputs + noise * torch.randn(inputs.shape, generator=chance)).clamp(0, 1)
        pairs = zip(cells.of(inputs), cells.of(near), strict=True)
        agree[noise] = np.mean([one == other for one, other in pairs])
    assert agree[0.001] > 0.95 > agree[0.01] > 0.6 > agree[0.3]
    assert len(set(cells.of(inputs))) > 0.95 * len(inputs)


def test_the_log_keeps_each_cell_once_and_no_more_than_it_may(tmp_path):
    inputs = asked(200)
    watched = service()
    watched.labels(torch.cat([inputs, inputs[:50]]))
    log = watched.log
    offsets = [by_hand(picture, 0.3, 10) for picture in inputs]
    altered = [place for place, offset in enumerate(offsets) if offset is not None]
    assert torch.equal(log.inputs, inputs[altered])
    assert torch.equal(log.labels, tiny_victim().labels(inputs[altered]))
    assert log.offsets == tuple(offsets[place] for place in altered)
    assert (log.asked, log.altered) == (250, len(altered) + sum(place < 50 for place in altered))
    few = service(most=5)
    few.labels(inputs)
    assert torch.equal(few.log.inputs, log.inputs[:5])
    assert few.log.altered == len(altered)
    log.write(tmp_path / "log.safetensors")
    read = read_alterations(tmp_path / "log.safetensors")
    assert torch.equal(read.inputs, log.inputs)
    assert torch.equal(read.told, log.told)
    assert (read.classes, read.asked, read.altered) == (10, 250, log.altered)
    assert KEY not in (tmp_path / "log.safetensors").read_bytes()
    with pytest.raises(UsageError, match="there is no log"):
        _ = service(share=0.0).log


def test_damaged_logs_are_refused(tmp_path):
    watched = service()
    watched.labels(asked(100))
    path = tmp_path / "log.safetensors"
    watched.log.write(path)
    tensors, metadata = read_tensors(path)
    counts = json.loads(metadata["dawn"])
    for changed, told in (
        ({"told": tensors["labels"]}, metadata),
        ({"told": tensors["told"] + 10}, metadata),
        ({"told": tensors["told"][:-1]}, metadata),
        ({"told": tensors["told"].float()}, metadata),
        ({"more": tensors["told"]}, metadata),
        ({"inputs": tensors["inputs"] / 0}, metadata),
        ({}, {}),
        ({}, {"dawn": json.dumps(counts | {"classes": "10"})}),
        ({}, {"dawn": json.dumps(counts | {"key": "k"})}),
    ):
        write_tensors(path, tensors | changed, told)
        with pytest.raises(InvalidFile):
            read_alterations(path)
    path.write_bytes(b"nothing")
    with pytest.raises(InvalidFile):
        read_alterations(path)


def test_whoever_learned_the_answers_is_told_and_a_stranger_over_keys_is_not():
    """Strangers that answer anything at all: no more of them below p than p says, over 250 keys."""
    inputs, owner = asked(120), tiny_victim()
    strangers = {
        "another net": tiny_victim(seed=1).labels(inputs),
        "always 3": torch.full((120,), 3),
        "the model itself": owner.labels(inputs),
        "one more than the model": (owner.labels(inputs) + 1) % 10,
    }
    p = {name: [] for name in strangers}
    copies = []
    for number in range(250):
        watched = Dawn(tiny_victim(), Cells(number.to_bytes(16, "big"), 10, 0.3))
        told = watched.labels(inputs)
        log = watched.log
        places = [int((inputs == each).flatten(1).all(1).nonzero()) for each in log.inputs[:40]]
        log = replace(log, inputs=log.inputs[:40], labels=log.labels[:40], told=log.told[:40])
        copies.append(log.test(told[places]).log_p)
        for name, answers in strangers.items():
            p[name].append(log.test(answers[places]).p)
    assert max(copies) < -40
    assert p["the model itself"] == pytest.approx([1.0] * 250)
    for name, values in p.items():
        for level in (0.01, 0.05, 0.3):
            assert np.mean(np.array(values) <= level) <= level + 4 * np.sqrt(level / 250), name
    assert np.mean(np.array(p["one more than the model"]) <= 0.3) > 0.1


def test_exact_where_the_key_was_drawn_and_gives_this_log():
    draw = drawing()
    key = key_of(draw, "service")
    assert key == bytes(draw.labels(32, 256, "service"))
    watched = service(key=key)
    told = watched.labels(inputs := asked(100))
    log, cells = watched.log, watched.cells
    answers = torch.stack([told[(inputs == each).flatten(1).all(1)][0] for each in log.inputs])
    known = {"cells": cells, "proof": draw, "name": "service"}
    found = log.test(answers, **known)
    assert (found.exact, found.why, found.choices) == (True, "", 9)
    assert found.matches == found.n == len(log.inputs)
    assert found.log_p == pytest.approx(-len(log.inputs) * np.log(9))
    more = log.test(answers, draws=7, **known)
    assert more.log_p == pytest.approx(found.log_p + np.log(7))
    turned = log.told.clone()
    turned[0] = next(each for each in range(10) if each not in (int(log.labels[0]), int(log.told[0])))
    twice = replace(log, **{name: torch.cat([getattr(log, name)] * 2) for name in ("inputs", "labels", "told")})
    for other, changes, message in (
        (log, {"proof": None}, "no draw"),
        (log, {"name": "other"}, "not the one that was drawn"),
        (replace(log, told=turned), {}, "not what the key gives"),
        (twice, {}, "twice"),
    ):
        given = answers if len(other.inputs) == len(answers) else torch.cat([answers, answers])
        result = other.test(given, **(known | changes))
        assert not result.exact
        assert message in result.why
    alone = drawing(withhold=("suspect",))
    withheld = service(key=key_of(alone, "service"))
    withheld.labels(inputs)
    found = withheld.log.test(withheld.log.told, cells=withheld.cells, proof=alone, name="service")
    assert "withheld" in found.why
    assert found.draws == 2


def test_what_cannot_be_is_refused():
    for wrong in ({"key": b"short"}, {"share": 1.5}, {"grid": 0}, {"levels": 0}):
        with pytest.raises(UsageError):
            service(**wrong)
    with pytest.raises(UsageError, match="3 classes"):
        Cells(KEY, 2)
    with pytest.raises(UsageError, match="classifier of 3 classes"):
        Dawn(tiny_victim(), Cells(KEY, 3))
    with pytest.raises(UsageError, match="can be kept"):
        service(most=0)
    assert Dawn(LinearOracle(), Cells(KEY, 4, 1.0)).labels(torch.rand(3, 1, 2, 3)).shape == (3,)
    assert hmac.compare_digest(Cells(KEY, 4)._tag(b"a", b"b"), hmac.digest(KEY, b"whorl/dawn/v1/a/b", "sha256"))
