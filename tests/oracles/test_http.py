"""HTTP endpoints that misbehave: each ends in the right answer or one clear line, nothing asked twice, nothing lost."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hostile_server import HostileServer, truth
from linear_oracle import CLASSES, SHAPE, pictures
from torch.testing import assert_close

from whorl.errors import BudgetExhausted, MissingExtra, OracleError, UsageError
from whorl.oracles.convention import InputConvention
from whorl.oracles.http import HttpOracle, HttpSettings
from whorl.oracles.recorded import Recorded
from whorl.types import Access

INPUTS = pictures(40)
FAST = {"batch": 4, "concurrency": 3, "timeout": 5.0, "max_wait": 0.02}

PATIENCE = {"late": 1.0, "dribble": 1.0, "continued": 0.3, "dripping": 0.3}


def keys(inputs):
    return [row.numpy().tobytes() for row in inputs]


def oracle(server, *, access=Access.LOGITS, budget=None, **settings):
    given = {"url": server.url, "model": "m", **FAST, **settings}
    return HttpOracle(HttpSettings.read(given), input_shape=SHAPE, classes=CLASSES, access=access, budget=budget)


def positions_and_answers(stream):
    """What arrived before the stream ended, and the error that ended it."""
    received = {}
    try:
        for positions, answers in stream:
            received.update(zip(positions.tolist(), answers, strict=True))
    except Exception as error:
        return received, error
    return received, None


@pytest.mark.parametrize("always", ["right", "slow"])
def test_a_sound_endpoint_is_asked_once_about_everything(always):
    with HostileServer(always=always) as server:
        endpoint = oracle(server)
        assert_close(endpoint.logits(INPUTS), truth(INPUTS))
        assert server.asked == server.answered == dict.fromkeys(keys(INPUTS), 1)
        assert endpoint.sent == endpoint.queries_spent == 40
        assert [count for _, count in server.requests] == [4] * 10
        assert server.most_running <= 3


def test_requests_are_on_their_way_together():
    with HostileServer(always="together") as server:  # answers only once three requests wait
        assert_close(oracle(server, timeout=30.0, retries=0).logits(INPUTS[:36]), truth(INPUTS[:36]))
        assert server.most_running == 3


@pytest.mark.parametrize("trouble", ["late", "dribble", "dropped", "dropped_at_once", "busy", "broken", "impatient"])
def test_passing_trouble_ends_in_the_right_answers(trouble):
    with HostileServer("right", trouble, "right", trouble, trouble, always="slow") as server:
        endpoint = oracle(server, timeout=PATIENCE.get(trouble, 10.0))
        assert_close(endpoint.logits(INPUTS), truth(INPUTS))
        assert not server.asked_again
        assert server.answered == dict.fromkeys(keys(INPUTS), 1)
        assert endpoint.sent == sum(server.asked.values()) == 40 + 3 * 4
        assert endpoint.queries_spent == 40


@pytest.mark.parametrize(
    ("trouble", "complaint"),
    [
        ("broken", "answers 500: <html>internal error</html> (asked 3 times); what was answered is kept"),
        ("dropped", "lost the connection"),
        ("dropped_at_once", "lost the connection"),
        ("late", "did not answer within 1 s (asked 3 times)"),
        ("dribble", "did not finish its answer within 1 s (asked 3 times)"),
        ("busy", 'answers 429: {"error": "slow down"} (asked 3 times)'),
        ("continued", "did not answer within 0.3 s (asked 3 times)"),
        ("dripping", "did not answer within 0.3 s (asked 3 times)"),
        ("loading_for_long", "answers 503: "),
        ("busy_for_a_day", "asks to wait 86400 s, longer than max_wait"),
        ("forbidden", "answers 403"),
        ("elsewhere", "redirects elsewhere (307), which is not followed"),
        ("too_few", "the answer has the shape [3, 4]; [4, 4] is needed"),
        ("too_narrow", "the answer has the shape [4, 3]; [4, 4] is needed"),
        ("liar", "the answer has 15 values; its shape says 16"),
        ("nan", "an answer is NaN"),
        ("huge", "values; its shape says 16"),
        ("html", "is not JSON: it starts with '<!doctype html> <title>Sign in</title>'"),
        ("truncated", "is not JSON"),
        ("nested", "nested too deeply"),
        ("empty", "the answer is empty"),
        ("gzip", "compresses its answer (gzip) although asked not to"),
    ],
)
def test_lasting_trouble_ends_in_one_line_after_what_was_answered(trouble, complaint):
    with HostileServer(*["right"] * 4, always=trouble) as server:
        endpoint = oracle(server, timeout=PATIENCE.get(trouble, 10.0), retries=2)
        received, error = positions_and_answers(endpoint.stream(INPUTS))
        assert type(error) is OracleError
        assert complaint in str(error)
        assert server.url in str(error)
        assert "\n" not in str(error)
        assert server.answered.keys() >= set(keys(INPUTS[list(received)]))
        assert len(received) == 16
        assert_close(torch.stack(list(received.values())), truth(INPUTS[list(received)]))
        assert not server.asked_again
        # What was waiting was not sent: four good requests and at most three troubled ones, three times each.
        assert len(server.requests) <= 4 + 3 * 3
        assert endpoint.queries_spent == 16


@pytest.mark.parametrize("trouble", ["label_too_large", "label_below_zero"])
def test_a_label_out_of_range_is_refused(trouble):
    with HostileServer("labels", always=trouble) as server:
        endpoint = oracle(server, access=Access.LABELS, concurrency=1)
        received, error = positions_and_answers(endpoint.stream(INPUTS))
        assert "outside 0..3" in str(error)
        assert torch.equal(torch.stack(list(received.values())), truth(INPUTS[:4]).argmax(1))


@pytest.mark.parametrize("kind", ["flood", "silent_flood"])
def test_two_gigabytes_cost_neither_memory_nor_time(kind):
    code = f"""
import resource, torch
from whorl.errors import OracleError
from whorl.oracles.http import HttpOracle, HttpSettings
from whorl.types import Access
settings = HttpSettings(url=input(), model="m", timeout=60)
oracle = HttpOracle(settings, input_shape={SHAPE}, classes={CLASSES}, access=Access.LOGITS)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    oracle.answers(torch.zeros(1, *{SHAPE}))
except OracleError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    with HostileServer(always=kind) as server:
        run = subprocess.run([sys.executable, "-c", code], input=server.url, capture_output=True, text=True, check=True)
        complaint, growth = run.stdout.splitlines()
        assert "sends more than 67108864 bytes" in complaint
        assert int(growth) < 200  # MiB
        assert server.cut.wait(10)
        assert server.flooded < 2**28
        assert len(server.requests) == 1


def test_an_endpoint_that_asks_to_wait_is_waited_for():
    with HostileServer("busy_for_a_second") as server:
        assert_close(oracle(server, max_wait=5.0).logits(INPUTS[:4]), truth(INPUTS[:4]))
        (first, _), (second, _) = server.requests
        assert second - first >= 1.0


def test_a_model_that_loads_is_waited_for_as_long_as_it_says():
    with HostileServer("loading") as server:
        assert_close(oracle(server, concurrency=1, max_wait=5.0).logits(INPUTS[:4]), truth(INPUTS[:4]))
        (first, _), (second, _) = server.requests
        assert second - first >= 0.6


def test_an_interim_response_is_passed_over():
    with HostileServer(always="continued_once") as server:
        assert_close(oracle(server).logits(INPUTS), truth(INPUTS))


def test_a_key_that_is_echoed_in_other_spellings_is_masked(monkeypatch):
    monkeypatch.setenv("WHORL_TEST_KEY", "s3cret-value-9")
    with HostileServer(always="spelled") as server, pytest.raises(OracleError, match="answers 403") as error:
        oracle(server, key_env="WHORL_TEST_KEY").logits(INPUTS[:1])
    assert str(error.value).endswith('{"error": "no *** but *** ***"}')


def test_requests_keep_the_distance_that_the_rate_asks_for():
    with HostileServer() as server:
        start = time.monotonic()
        oracle(server, rate=5.0).logits(INPUTS[:24])
        assert 5 / 5 <= time.monotonic() - start < 10  # six requests; at once they take far less, on a busy machine too


def test_a_server_that_is_not_there_costs_nothing():
    with HostileServer() as server:
        url = server.url
    endpoint = HttpOracle(
        HttpSettings(url=url, model="m", retries=1, max_wait=0.01, input_name="x"),
        input_shape=SHAPE,
        classes=CLASSES,
        access=Access.LOGITS,
        budget=10,
    )
    with pytest.raises(OracleError, match=r"cannot be reached \(.*refused.*\) \(asked 2 times\)"):
        endpoint.logits(INPUTS[:4])
    assert endpoint.sent == 0


def test_the_budget_is_never_passed():
    with HostileServer() as server:
        endpoint = oracle(server, budget=14)
        received, error = positions_and_answers(endpoint.stream(INPUTS))
        assert isinstance(error, BudgetExhausted)
        assert "14 of a budget of 14 queries are spent" in str(error)
        assert sorted(received) == list(range(14))
        with pytest.raises(BudgetExhausted):
            endpoint.logits(INPUTS[:1])
        assert sum(server.asked.values()) == endpoint.sent == 14


def test_repeated_attempts_are_paid_from_the_budget():
    with HostileServer(*["dropped"] * 3) as server:
        endpoint = oracle(server, budget=40, concurrency=1)
        received, error = positions_and_answers(endpoint.stream(INPUTS))
        assert isinstance(error, BudgetExhausted)
        assert len(received) == 28
        assert sum(server.asked.values()) == endpoint.sent == 40


def test_a_stream_that_is_left_early_asks_no_more():
    with HostileServer(always="slow") as server:
        stream = oracle(server, concurrency=1).stream(INPUTS)
        next(stream)
        stream.close()
        asked = len(server.requests)
        assert asked <= 3
        time.sleep(0.1)
        assert len(server.requests) == asked


def test_a_key_goes_to_the_endpoint_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("WHORL_TEST_KEY", "s3cret-value")
    with HostileServer("right", always="forbidden") as server:
        endpoint = oracle(server, key_env="WHORL_TEST_KEY", concurrency=1)
        _, error = positions_and_answers(endpoint.stream(INPUTS))
        assert server.headers[0]["authorization"] == "Bearer s3cret-value"
        assert "bad key Bearer ***" in str(error)
        assert "s3cret" not in repr(endpoint.settings) + endpoint.name + str(error)
    with HostileServer() as server:
        oracle(server, key_env="WHORL_TEST_KEY", key_header="X-Api-Key", key_scheme="").logits(INPUTS[:1])
        assert server.headers[0]["x-api-key"] == "s3cret-value"


def test_a_redirect_takes_no_key_with_it(monkeypatch):
    monkeypatch.setenv("WHORL_TEST_KEY", "s3cret-value")
    with HostileServer(always="elsewhere") as server:
        with pytest.raises(OracleError, match="not followed"):
            oracle(server, key_env="WHORL_TEST_KEY").logits(INPUTS[:1])
        assert len(server.requests) == 1


@pytest.mark.parametrize("value", [None, "", "two words", "line\nbreak", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(monkeypatch, value):
    monkeypatch.delenv("WHORL_TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("WHORL_TEST_KEY", value)
    with HostileServer() as server, pytest.raises(UsageError, match="WHORL_TEST_KEY holds no API key") as refusal:
        oracle(server, key_env="WHORL_TEST_KEY")
    assert not value or value not in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"url": "http://me:pa55@host/"}, "holds a key"),
        ({"url": "https://host/?api_key=pa55"}, "holds a key"),
        ({"url": "https://host/?Access-Token=pa55"}, "holds a key"),
        ({"url": "https://host/?sig=pa55"}, "holds a key"),
        ({"key": "pa55"}, "no setting 'key'"),
        ({"headers": {"Authorization": "pa55"}}, "no setting 'headers'"),
        ({"key_env": "sk-pa55"}, "not the key itself"),
        ({"key_env": "hf_pa55"}, "not the key itself"),
        ({"url": "file:///etc/pa55wd"}, "an address such as"),
        ({"url": "http://"}, "an address such as"),
        ({"url": "http://host:pa55/"}, "an address such as"),
        ({"url": "http://[pa55/"}, "an address such as"),
        ({"model": ""}, "needs model, its name on the server: --set model=NAME"),
        ({"protocol": "grpc"}, "protocol"),
        ({"batch": 0}, "batch"),
        ({"timeout": float("inf")}, "timeout"),
        ({"rate": 0}, "rate"),
        ({"protocol": "template", "template": "{}"}, "template and answer"),
        ({"answer": "x"}, "template and answer"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line_that_shows_no_secret(settings, complaint):
    with pytest.raises(UsageError, match=complaint) as refusal:
        HttpSettings.read({"url": "http://host", "model": "m"} | settings)
    assert "pa55" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_addresses_are_shown_without_their_query():
    settings = HttpSettings(url="http://host/base/?version=3", model="m")
    endpoint = HttpOracle(settings, input_shape=SHAPE, classes=CLASSES, access=Access.LOGITS)
    assert endpoint.name == "http://host/base/v2/models/m/infer"
    assert endpoint.block == 32 * 4


@pytest.mark.parametrize("package", ["httpx2", "stamina", "jmespath"])
def test_a_missing_package_names_the_extra(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # what makes an import fail
    settings = {"protocol": "template", "template": "{}", "answer": "x"} if package == "jmespath" else {"model": "m"}
    with pytest.raises(MissingExtra, match=r'pip install "whorl\[http\]"'):
        HttpOracle(
            HttpSettings(url="http://host", **settings), input_shape=SHAPE, classes=CLASSES, access=Access.LABELS
        )


def test_the_digest_changes_with_what_an_answer_means_and_with_nothing_else():
    def digest(convention=None, access=Access.LOGITS, **settings):
        given = HttpSettings(url="http://host", model="m").model_copy(update=settings)
        return HttpOracle(given, input_shape=SHAPE, classes=CLASSES, access=access, convention=convention).digest

    assert digest() == digest(batch=1, rate=2.0, timeout=3.0, retries=0) == digest(InputConvention())
    different = [
        digest(),
        digest(url="http://other"),
        digest(model="n"),
        digest(flat=True),
        digest(access=Access.PROBABILITIES),
        digest(InputConvention(mean=(0.5,))),
    ]
    assert len(set(different)) == len(different)


CLIENT = """
import json, sys, torch
sys.path.insert(0, sys.argv[3])
from linear_oracle import CLASSES, SHAPE, pictures
from whorl.oracles.http import HttpOracle, HttpSettings
from whorl.oracles.recorded import Recorded
from whorl.types import Access
settings = HttpSettings(url=sys.argv[1], model="m", batch=4, concurrency=3, input_name="x")
endpoint = HttpOracle(settings, input_shape=SHAPE, classes=CLASSES, access=Access.LOGITS)
for positions, _ in Recorded(endpoint, sys.argv[2]).stream(pictures(40)):
    print(json.dumps(positions.tolist()), flush=True)
"""


def test_a_killed_client_asks_only_the_rest(tmp_path):
    path = tmp_path / "answers.sqlite"
    with HostileServer(*["slow"] * 5, always="stalled") as server:
        command = [sys.executable, "-c", CLIENT, server.url, str(path), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
            received = [position for _ in range(5) for position in json.loads(client.stdout.readline())]
            client.kill()  # SIGKILL, with three requests on their way
        assert len(received) == 20
        assert set(server.answered) == set(keys(INPUTS[received]))
        server.always = "right"
        endpoint = oracle(server)
        recorded = Recorded(endpoint, path)
        assert_close(recorded.logits(INPUTS), truth(INPUTS))
        assert recorded.replayed.given.total() == 20
        assert endpoint.sent == 20 + recorded.replayed.sentinels
        assert server.answered.keys() == set(keys(INPUTS))
        assert sum(server.answered.values()) == len(INPUTS) + recorded.replayed.sentinels


def test_no_more_is_sent_before_what_came_has_been_taken():
    """Answers that wait for a slow disk would be lost by a kill, however few requests are on their way."""
    with HostileServer(always="right") as server:
        stream = oracle(server, batch=4, concurrency=3).stream(INPUTS)
        next(stream)
        time.sleep(0.3)  # for whatever would be sent meanwhile
        assert len(server.asked) <= 12
        assert sum(len(positions) for positions, _ in stream) == len(INPUTS) - 4


def test_a_failed_run_resumes_where_it_stopped(tmp_path):
    path = tmp_path / "answers.sqlite"
    with HostileServer(*["slow"] * 6, always="broken") as server:
        failing = Recorded(oracle(server, retries=1), path)
        with pytest.raises(OracleError, match="answers 500"):
            failing.logits(INPUTS)
        failing.close()
        server.always = "right"
        recorded = Recorded(oracle(server), path)
        assert_close(recorded.logits(INPUTS), truth(INPUTS))
        assert server.answered.keys() == set(keys(INPUTS))
        assert sum(server.answered.values()) == len(INPUTS) + recorded.replayed.sentinels
