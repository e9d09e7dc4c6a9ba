"""A copy for each user: who leaked one, or a mixture, is accused, and nobody else."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch
from test_marks import drawn_for, oracle

from whorl.errors import InvalidFile, UsageError
from whorl.marks.code_files import read_codes, write_codes
from whorl.marks.user_codes import commitment, copy_for, draw_codes, prepare_codes, shows, traced
from whorl.nets.files import write_model
from whorl.nets.training import accuracy
from whorl.storage import read_tensors, write_tensors
from whorl.symmetry.obfuscation import rescale, shuffle
from whorl.testing import tiny_data, tiny_net

NET = "resnet8(width=8)"
DATA = "digits(size=8)"
USERS = tuple("abcdefgh")


@pytest.fixture(scope="module")
def victim():
    return oracle(tiny_net(seed=0, architecture=NET))


@pytest.fixture(scope="module")
def codes(victim):
    prepared = prepare_codes(victim, USERS, DATA, colluders=2, error=0.01, seed=1)
    return draw_codes(prepared, drawn_for(commitment(prepared)))


@pytest.fixture(scope="module")
def copies(codes, victim):
    return {user: copy_for(codes, victim, user) for user in "abc"}


def mixed(nets):
    """The mean of all weights."""
    made = copy.deepcopy(nets[0])
    found = {name: torch.stack([net.state_dict()[name].double() for net in nets]).mean(0) for name in made.state_dict()}
    made.load_state_dict({name: value.to(made.state_dict()[name].dtype) for name, value in found.items()})
    return made


def accused(codes, net, alpha=0.01):
    found = traced(codes, oracle(net), alpha)
    assert found.exact
    return [codes.users[place] for place in found.accused]


def test_a_leaked_copy_names_its_user(codes, copies, victim):
    for user, net in copies.items():
        assert accused(codes, net) == [user]
        assert accuracy(net, tiny_data("test")) >= accuracy(victim.module, tiny_data("test")) - 0.1


def test_two_who_mixed_their_copies_are_both_accused(codes, copies):
    assert accused(codes, mixed([copies["a"], copies["b"]])) == ["a", "b"]


def test_units_that_were_reordered_are_put_back_by_the_model_that_was_there_before_the_draw(codes, copies, victim):
    for user in "ab":
        generator = torch.Generator().manual_seed(1)
        hidden = rescale(shuffle(copies[user], generator=generator), generator=generator)
        assert accused(codes, hidden) == []
        found = traced(codes, oracle(hidden), 0.01, align_to=victim)
        assert found.exact
        assert [codes.users[place] for place in found.accused] == [user]
    stranger = oracle(tiny_net(seed=5, architecture=NET))
    assert traced(codes, stranger, 0.01, align_to=victim).accused == ()
    with pytest.raises(UsageError, match="not the model that these codes were prepared for"):
        traced(codes, oracle(hidden), 0.01, align_to=oracle(copies["a"]))
    with torch.no_grad():
        next(hidden.parameters()).view(-1)[0] = float("nan")
    for known in (None, victim):
        with pytest.raises(UsageError, match="NaN or infinite"):
            traced(codes, oracle(hidden), 0.01, align_to=known)
    with pytest.raises(UsageError, match="not of the architecture"):
        traced(codes, oracle(tiny_net(seed=5, architecture="mlp(width=12)")), 0.01, align_to=victim)


def test_without_a_copy_nobody_is_accused(codes, victim):
    assert accused(codes, victim.module) == []
    assert accused(codes, tiny_net(seed=5, architecture=NET)) == []


def test_block_codes_name_colluders_and_accuse_nobody(victim):
    codes = draw_codes(prepare_codes(victim, USERS[:7], DATA, plan="block", seed=1))
    found = traced(codes, oracle(mixed([copy_for(codes, victim, user) for user in "ab"])))
    assert (found.named, found.accused) == ((0, 1), ())
    assert "no draw" in found.why


def test_a_file_keeps_them(codes, copies, tmp_path):
    write_codes(codes, tmp_path / "u.codes")
    known = read_codes(tmp_path / "u.codes")
    assert commitment(known) == commitment(codes)
    assert traced(known, oracle(copies["a"])) == traced(codes, oracle(copies["a"]))


@pytest.mark.parametrize("what", ["tensor", "user", "draws"])
def test_a_changed_file_is_refused_or_no_longer_exact(codes, copies, tmp_path, what):
    path = tmp_path / "u.codes"
    write_codes(codes, path)
    tensors, metadata = read_tensors(path)
    document = json.loads(metadata["whorl-codes"])
    if what == "tensor":
        tensors["rows"][0, 0] ^= 1
    elif what == "user":
        document["users"][0] = "mallory"
    else:
        document["draws"] = -1
    write_tensors(path, tensors, {"whorl-codes": json.dumps(document)})
    if what == "user":  # the draw was for the list as it was
        found = traced(read_codes(path), oracle(copies["a"]))
        assert (found.exact, "another claim" in found.why) == (False, True)
        return
    with pytest.raises(InvalidFile, match="no sound codes"):
        read_codes(path)


def test_a_copy_that_does_not_hold_its_row_is_told_from_one_that_does(codes, copies, victim):
    assert shows(codes, copies["a"], "a")
    assert not shows(codes, copies["a"], "b")
    assert not shows(codes, victim.module, "a")


def test_mistakes(codes, victim):
    with pytest.raises(UsageError, match="list of users is empty"):
        prepare_codes(victim, [], DATA)
    with pytest.raises(UsageError, match="stand twice"):
        prepare_codes(victim, ["a", "a"], DATA)
    for name in ("a" * 301, "a\x1b[2J"):
        with pytest.raises(UsageError, match="300 printable characters"):
            prepare_codes(victim, ["b", name], DATA)
    for users, colluders in ((map(str, range(100_001)), 1), (USERS, 1001)):  # refused at once
        with pytest.raises(UsageError, match="100,000 users and 1,000 colluders at most"):
            prepare_codes(victim, list(users), DATA, colluders=colluders)
    for seed in (-1, 1 << 63):
        with pytest.raises(UsageError, match=r"from 0 to 2\^63 - 1"):
            prepare_codes(victim, USERS, DATA, colluders=1, seed=seed)
    with pytest.raises(UsageError, match="2,147,483,648 times"):
        draw_codes(dataclasses.replace(codes, code=None), draws=1 << 40)
    with pytest.raises(UsageError, match="like those that it learned from"):
        prepare_codes(victim, USERS, "digits(size=9)")
    with pytest.raises(UsageError, match="fewer"):
        prepare_codes(victim, USERS, DATA, colluders=8)
    with pytest.raises(UsageError, match="none of the 8 users"):
        copy_for(codes, victim, "zoe")
    with pytest.raises(UsageError, match="drawn already"):
        draw_codes(codes)
    with pytest.raises(UsageError, match="not drawn yet"):
        traced(dataclasses.replace(codes, code=None), victim)
    with pytest.raises(UsageError, match="draw for these"):
        draw_codes(dataclasses.replace(codes, code=None), drawn_for("ab" * 32))
    with pytest.raises(UsageError, match="no layer"):
        traced(codes, oracle(tiny_net(seed=0, architecture="mlp(width=8)")))


def test_the_verbs_go_from_a_list_of_users_to_who_leaked(victim, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from whorl.cli.app import app

    monkeypatch.chdir(tmp_path)
    write_model(victim.module, tmp_path / "mine.safetensors", architecture=NET, input_shape=(1, 8, 8))
    (tmp_path / "users.txt").write_text("\n".join(USERS))

    def whorl(*typed):
        done = CliRunner().invoke(app, [*map(str, typed)])
        assert done.exit_code == 0, done.stderr
        return done.stdout

    made = ("--users", "users.txt", "--data", DATA, "--colluders", 2, "--error", 0.01, "--prepare", "--json")
    fixed = json.loads(whorl("codes", "make", "mine.safetensors", *made, "-o", "u.codes"))
    assert not fixed["drawn"]
    kept = (tmp_path / "u.codes").read_bytes()
    again = CliRunner().invoke(app, ["codes", "make", "mine.safetensors", *map(str, made), "-o", "u.codes"])
    assert (again.exit_code, "copies with its rows may be out" in again.output) == (2, True)
    assert (tmp_path / "u.codes").read_bytes() == kept
    begun = whorl("claim", "draw", "r.draw", "--as", "judge", "--nonce", "j", "--mark", "u.codes", "--json")
    assert json.loads(begun)["claim"] == fixed["commitment"]
    for role, nonce in (("owner", "o"), ("owner", "o"), ("judge", "j")):
        whorl("claim", "draw", "r.draw", "--as", role, "--nonce", nonce)
    whorl("codes", "draw", "u.codes", "--draw", "r.draw")
    whorl("codes", "copy", "u.codes", "mine.safetensors", "--user", "d", "-o", "d.safetensors")
    found = json.loads(whorl("trace", "d.safetensors", "--codes", "u.codes", "--json"))
    assert found["exact"]
    assert [row["user"] for row in found["users"] if row["accused"]] == ["d"]
    assert "ACCUSED  1 of 8" in whorl("trace", "d.safetensors", "--codes", "u.codes")
    assert "NOBODY" in whorl("trace", "mine.safetensors", "--codes", "u.codes")
    short = ("--users", "users.txt", "--data", DATA, "--colluders", 1, "--error", 0.9)
    whorl("codes", "make", "mine.safetensors", *short, "-o", "short.codes")
    told = CliRunner().invoke(
        app, ["codes", "copy", "short.codes", "mine.safetensors", "--user", "d", "-o", "s.safetensors"]
    )
    assert "would not be traced to d" in told.stderr
