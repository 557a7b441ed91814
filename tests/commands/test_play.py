"""`mtsql play` as its player meets it."""

import io
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest

from helpers.places import ROOT
from helpers.shops import DIALOGUE, SCHEMA, write_shops
from mtsql.data.dataset import write_dataset
from mtsql.protocol import ACTIONS, DIALECTS, ParseFailure, parse_action
from recipes.main import main
from recipes.play.commands import BadCommand, Speech, read_command

WEIGHTS = ["reward.ex=1", "reward.em=1", "reward.verify=0.1"]
ACTIONS_FILE = """\
# The first proposal shows all shops, and the verdict on it is right.
propose SELECT name FROM shop
execute
verify execution fail
correct SELECT name FROM shop \\
  WHERE city = 'Paris'
answer

# The second turn looks at nothing and is wrong; the blank line below gives the answer.
propose SELECT count(*) FROM shop

"""
TRANSCRIPT = """\
Dialogue hand-0 (2 turns) on database shops, gold history.
shop(id number primary key, name text, city text)

Turn 1 of 2: show all shops in Paris
[7 left] > propose SELECT name FROM shop
{"ok": true}
[6 left] > execute
{"columns": ["name"], "rows": [["Ada"], ["Bob"], ["Cy"]], "num_rows": 3}
[5 left] > verify execution fail
{"ok": true}
[4 left] > correct SELECT name FROM shop WHERE city = 'Paris'
{"ok": true}
[3 left] > answer

Turn ended: answered
  1  propose                                      0
  2  execute                                      0
  3  verify execution fail                     +0.1
  4  correct                                      0
  5  answer                                      +2
Reward: +2.1 (outcome +2; EX yes, EM yes)
Gold: SELECT name FROM shop WHERE city = 'Paris'

Turn 2 of 2: how many are there ?
[7 left] > propose SELECT count(*) FROM shop
{"ok": true}
[6 left] > answer

Turn ended: answered
  1  propose                                      0
  2  answer                                       0
Reward: 0 (outcome 0; EX no, EM no)
Gold: SELECT count(*) FROM shop WHERE city = 'Paris'

Scored turns: 2, right (EX): 1, reward in all: +2.1
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One dialogue about the shops, prepared."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_dataset(
        folder,
        name="hand",
        seed=1,
        splits={"test": [DIALOGUE]},
        databases={"shops": write_shops(folder / "shops.sqlite")},
        schemas=[SCHEMA],
    )
    return folder


@pytest.fixture
def shops(data: Path) -> str:
    return str(data / "shops.sqlite")


def actions(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "actions.txt"
    path.write_text(text)
    return ["--actions", str(path)]


def typing(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


# A file of actions ----------------------------------------------------------------------------


def test_a_dialogue_is_played_from_a_file(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["play", "--data", str(data), "--dialogue", "hand-0"]
    assert main([*words, *actions(tmp_path, ACTIONS_FILE), *WEIGHTS]) == 0
    # 0.1 for the right verdict "fail", then EX 1 + EM 1; the second answer is wrong.
    assert capsys.readouterr().out == TRANSCRIPT


def test_history_is_gold_or_the_players_own(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "propose SELECT 7\nanswer\npropose SELECT 8\nverify memory\nanswer\n"
    gold, own = DIALOGUE.turns[0].gold_sql, "SELECT 7"
    for history, sql in (("gold", gold), ("predicted", own)):
        words = ["play", "--data", str(data), "--history", history]
        assert main([*words, *actions(tmp_path, text)]) == 0
        assert f'"history": [{{"q": "{DIALOGUE.turns[0].question}", "a": "{sql}"}}]' in (
            capsys.readouterr().out
        )


def test_a_later_turn_may_be_the_first(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"propose {DIALOGUE.turns[1].gold_sql}\nprompt\nanswer\n"
    assert main(["play", "--data", str(data), "--turn", "2", *actions(tmp_path, text)]) == 0
    out = capsys.readouterr().out
    assert "Turn 2 of 2" in out
    assert "Turn 1 of 2" not in out
    assert f"q: {DIALOGUE.turns[0].question} a: {DIALOGUE.turns[0].gold_sql}" in out
    assert "--- tools" in out


def test_literal_messages_are_sent_as_they_are(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        "<think>all in Paris</think>\n<tool_call>\n"
        '{"name": "propose", "arguments": {"sql": "SELECT 1"}}\n</tool_call>\n'
        "raw no call at all\n"
        'raw <tool_call>{"name": "execute"}</tool_call>\n'
        "answer\n"
    )
    assert main(["play", "--data", str(data), *actions(tmp_path, text)]) == 0
    out = capsys.readouterr().out
    assert '{"error": "malformed", "message": "no tool call; write ' in out
    assert '{"columns": ["1"], "rows": [[1]], "num_rows": 1}' in out
    assert "  2  unreadable" in out


def test_the_player_has_the_hints_of_the_policy(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["play", "--data", str(data), "environment.prompt=compact"]
    line = "values: shop.city = 'Paris'"
    for override, is_shown in [("false", False), ("true", True)]:
        hints = f"environment.value_hints={override}"
        assert main([*words, hints, *actions(tmp_path, "prompt\nanswer\n")]) == 0
        assert (line in capsys.readouterr().out) is is_shown


def test_what_is_not_used_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "propose SELECT 1\nexecute\nexecute\nanswer\n\nraw x\nraw x\nraw x\n\npropose SELECT 1"
    words = ["play", "--data", str(data), *actions(tmp_path, text), "environment.max_steps=3"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "Turn ended: max_steps" in out
    assert "Turn ended: malformed" in out
    assert out.count("Not used, the turn had ended: 1 commands") == 2
    assert "Not used, the dialogue had ended: the actions of 1 turns" in out


def test_a_turn_without_a_proposal_ends_too(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["play", "--data", str(data), *actions(tmp_path, "verify memory\n")]) == 0
    out = capsys.readouterr().out
    assert "The file has no more actions for this turn" in out
    assert "Turn ended: max_tokens" in out
    assert "  2  answer (not accepted)" in out


def test_the_transcript_in_the_documents_is_real(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    block = readme.split("$ .venv/bin/mtsql play ")[1].split("```")[0]
    words, transcript = block.split("\n", 1)
    commands = [line.split("] > ")[1] for line in transcript.splitlines() if "] > " in line]
    typing(monkeypatch, "\n".join(commands))
    assert main(["play", *words.split()]) == 0
    assert capsys.readouterr().out.startswith(transcript)


@pytest.mark.parametrize(
    ("dialect", "text", "seen", "labels"),
    [
        (
            "mtsql_r1",
            "propose SELECT name FROM shop\nexecute\nverify execution fail\n"
            "correct SELECT name FROM shop WHERE city = 'Paris'\nexecute\nverify execution pass\n",
            "<exec_verify>no_pass</exec_verify>\n<tool_call>",
            ["propose, execute", "verify execution fail, correct, execute", "answer"],
        ),
        (
            "cocte",
            "propose paris SELECT * FROM shop WHERE city = 'Paris'\nexecute\n"
            "verify execution pass\npropose SELECT name FROM paris\n",
            '"name": "paris", "sql": "SELECT * FROM shop',
            ["propose", "execute", "verify execution pass", "propose", "answer"],
        ),
        (
            "short_horizon",
            "propose SELECT name FROM shop WHERE city = 'Paris'\n",
            "--- user",
            ["propose, answer"],
        ),
    ],
)
def test_every_dialect_is_played(
    dialect: str,
    text: str,
    seen: str,
    labels: list[str],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["play", "--data", str(data), *actions(tmp_path, f"{text}prompt\n")]
    assert main([*words, f"environment.dialect={dialect}"]) == 0
    out = capsys.readouterr().out
    assert seen in out
    steps = out.split("Turn ended: answered\n")[1].split("Reward:")[0].splitlines()
    for step, label in zip(steps, labels, strict=True):
        assert label in step
    assert "EX yes" in out


@pytest.mark.parametrize(
    ("dialect", "lines", "message"),
    [
        ("mtsql_r1", ["execute"], "propose a query first"),
        ("mtsql_r1", ["propose 1"], "answer_sql holds no query"),
        ("short_horizon", ["propose SELECT 1", "execute"], "this dialect has no execute"),
        ("cocte", ["propose a ..."], "sql holds no statement"),
    ],
)
def test_what_a_dialect_has_not_is_said(dialect: str, lines: list[str], message: str) -> None:
    speech = Speech(DIALECTS[dialect])
    for line in lines[:-1]:
        assert read_command(line, lambda: None, speech).message is None
    with pytest.raises(BadCommand) as caught:
        read_command(lines[-1], lambda: None, speech)
    assert message in str(caught.value)


# Without a dataset ----------------------------------------------------------------------------


def test_with_nothing_given_an_embedded_dialogue_is_played(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        typing(monkeypatch, "propose SELECT 1\nanswer\n")
        assert main(["play", "--seed", "4"]) == 0
    out = capsys.readouterr().out
    first, second = out[: len(out) // 2], out[len(out) // 2 :]
    assert first == second
    assert first.startswith("Dialogue embedded-test")
    assert "Reward: 0 (outcome 0; EX no, EM no)\nGold: SELECT " in first


def test_a_seed_is_told_when_none_was_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typing(monkeypatch, "")
    assert main(["play"]) == 0
    assert " plays it again." in capsys.readouterr().out


def test_a_database_of_ones_own_gives_no_reward(
    shops: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = ["--question", "who is in Rome ?", "--question", "how many ?"]
    text = "propose SELECT name FROM shop WHERE city = 'Rome'\nexecute\nanswer\n\nverify memory\n"
    assert main(["play", "--db", shops, *questions, *actions(tmp_path, text)]) == 0
    out = capsys.readouterr().out
    assert '{"columns": ["name"], "rows": [["Cy"]], "num_rows": 1}' in out
    assert out.count("Reward: unscored, nobody knows the gold SQL") == 2
    assert "Gold:" not in out
    assert "Scored turns" not in out


def test_a_goal_asks_and_scores(
    shops: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    goal = "SELECT count(*) FROM shop"
    text = f"propose SELECT * FROM shop\nanswer\npropose {goal}\nanswer\n"
    words = ["play", "--db", shops, "--goal", goal, *actions(tmp_path, text), *WEIGHTS]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "Turn 1: show all shops" in out
    assert "Turn 2: how many are there ?" in out
    assert "Scored turns: 2, right (EX): 2, reward in all: +4" in out


def test_a_goal_that_em_cannot_read_is_scored_by_ex_alone(
    shops: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    goal = "SELECT name FROM shop WHERE id > 0 AND (city = 'Paris' OR city = 'Rome')"
    text = f"propose SELECT name FROM shop\nanswer\n\npropose SELECT 1\nanswer\n\npropose {goal}\n"
    words = ["play", "--db", shops, "--goal", goal, *actions(tmp_path, f"{text}answer\n")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "unscored" not in out
    assert "EM cannot read the gold SQL (" in out
    assert "; EX speaks for it" in out
    assert "Scored turns: 3, right (EX): 2" in out
    assert main([*words, "reward.unreadable_em=drop"]) == 0
    out = capsys.readouterr().out
    assert "Reward: unscored, EM cannot read the gold SQL (" in out
    assert "; reward.unreadable_em=ex scores EX alone" in out


def test_rewards_need_no_advantage_here(data: Path, tmp_path: Path) -> None:
    words = ["play", "--data", str(data), *actions(tmp_path, "propose SELECT 1\nanswer\n")]
    assert main([*words, "reward.preset=mtsql_r1"]) == 0


def test_questions_are_typed_too(
    shops: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typing(monkeypatch, "who ?\npropose SELECT 1\nanswer\n\n")
    assert main(["play", "--db", shops]) == 0
    assert "Turn 1: who ?" in capsys.readouterr().out


def test_a_duckdb_file_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pets.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE pet (id INTEGER PRIMARY KEY, name VARCHAR)")
        connection.execute("INSERT INTO pet VALUES (1, 'Ada')")
    typing(monkeypatch, "propose SELECT name FROM pet\nexecute\nanswer\n")
    assert main(["play", "--db", str(path), "--question", "who ?"]) == 0
    out = capsys.readouterr().out
    assert "pet(id integer primary key, name varchar)" in out
    assert '"rows": [["Ada"]]' in out


# Typing ---------------------------------------------------------------------------------------


def test_a_bad_command_is_told_and_costs_nothing(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typing(monkeypatch, "executes\nSELECT 1\npropose\n\nhelp\nschema\npropose SELECT 1\nquit\n")
    assert main(["play", "--data", str(data)]) == 0
    out = capsys.readouterr().out
    assert "unknown command 'executes'; did you mean 'execute'? (nothing was sent)" in out
    assert "to stand behind a query: propose SELECT ... (nothing was sent)" in out
    assert "propose needs a query: propose SELECT ... (nothing was sent)" in out
    assert "[7 left] > propose SELECT 1\n" in out
    assert "[6 left] > quit\n" in out
    assert "Scored turns" not in out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("verify", "verify execution pass|fail, or verify memory"),
        ("verify execution", "verify execution pass|fail"),
        ("verify memory maybe", "verify memory [pass|fail]"),
        ("execute now", "execute stands alone"),
        ("raw", "raw needs the text of a message"),
        ("propose 1", "propose: sql holds no statement"),
        ("xyzzy", "help lists the commands"),
    ],
)
def test_bad_commands(line: str, message: str) -> None:
    with pytest.raises(BadCommand) as caught:
        read_command(line, lambda: None, Speech(ACTIONS))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "line",
    ["propose SELECT 'a  b'", "execute", "verify memory fail", "Correct SELECT 1 -- x", "answer"],
)
def test_a_command_is_the_dialects_message(line: str) -> None:
    message = read_command(line, lambda: None, Speech(ACTIONS)).message
    assert message is not None
    action = parse_action(message)
    assert not isinstance(action, ParseFailure)
    assert ACTIONS.render((action,)) == message


def test_a_paste_ends_at_its_closing_tag_or_a_blank_line() -> None:
    def paste(*lines: str) -> tuple[str | None, list[str]]:
        left = list(lines[1:])
        command = read_command(lines[0], lambda: left.pop(0) if left else None, Speech(ACTIONS))
        return command.message, left

    assert paste("<a>x</a>", "next") == ("<a>x</a>", ["next"])
    assert paste("<think>", "</think>", "<a>", "</a>", "next")[1] == ["next"]
    assert paste("<think>", "no end", "", "next") == ("<think>\nno end", ["next"])
    assert paste("<a>") == ("<a>", [])


# In a terminal --------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "code"), [(b"\x03", 130), (b"\x04", 0)])
def test_ctrl_c_and_ctrl_d_end_it(data: Path, key: bytes, code: int) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "recipes.main", "play", "--data", str(data)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_take_terminal,
        env={**os.environ, "TERM": "dumb"},
    )
    os.close(theirs)
    try:
        seen = _read_until(ours, "[7 left] > ")
        os.write(ours, b"propose SELECT 1\n")
        seen += _read_until(ours, "[6 left] > ")
        # More than once: readline misses a signal between its prompt and its wait for a key. Long
        # after one another: a second signal on the way out would end it by that.
        for _ in range(4):
            time.sleep(0.5)
            os.write(ours, key)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
                break
        assert process.returncode == code
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert '{"ok": true}' in seen


def _take_terminal() -> None:
    import fcntl  # noqa: PLC0415 - in the child only
    import termios  # noqa: PLC0415

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _read_until(terminal: int, wanted: str) -> str:
    seen = ""
    give_up_s = time.monotonic() + 30
    while wanted not in seen:
        assert time.monotonic() < give_up_s, seen
        seen += os.read(terminal, 4096).decode()
    return seen


def test_ctrl_c_ends_it_while_a_pipe_says_nothing(data: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "recipes.main", "play", "--data", str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("Turn 1"):
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stdout.read().endswith("Stopped.\n")
        assert process.stderr.read() == ""


# Mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nosuch"], "nosuch: no such folder"),
        (["--data", "data", "--dialogue", "hnd-0"], "did you mean 'hand-0'?"),
        (["--data", "data", "--dialogue", "xyzzy"], "not among 1 dialogues; one of them is 'hand-"),
        (["--data", "data", "--turn", "3"], "--turn 3: hand-0 has turns 1 to 2"),
        (["--data", "data", "--db", "data/shops.sqlite"], "--data and --db exclude each other"),
        (["--db", "nosuch.sqlite"], "--db nosuch.sqlite: no such file"),
        (["--db", "text.sqlite"], "text.sqlite: cannot be read as an SQLite database"),
        (["--db", "text.duckdb"], "text.duckdb: cannot be read as a DuckDB database"),
        (["--db", "data/shops.sqlite", "--turn", "2"], "--turn is for the dialogues of a dataset"),
        (["--db", "data/shops.sqlite", "--goal", "SELEC"], "goal: give one SELECT ... FROM"),
        (
            ["--db", "data/shops.sqlite", "--goal", "SELECT nope FROM shop"],
            "--goal does not run on shops (error): no such column: nope",
        ),
        (
            ["--db", "data/shops.sqlite", "--goal", "SELECT 1", "--question", "x"],
            "--question and --goal exclude each other",
        ),
        (["--db", "data/shops.sqlite", "--history", "gold"], "your questions have no gold SQL"),
        (["--db", "data/shops.sqlite", "--actions", "text.txt"], "add --question TEXT or --goal"),
        (["--question", "who ?"], "--question asks about a database of yours: add --db FILE"),
        (["--goal", "SELECT 1"], "--goal asks about a database of yours"),
        (["--data", "data", "--actions", "nosuch.txt"], "--actions nosuch.txt: cannot be read"),
        (
            ["--data", "data", "--actions", "text.txt"],
            "text.txt, line 2: unknown command 'executes'; did you mean 'execute'?",
        ),
        (["--recipe", "nosuch.yaml"], "nosuch.yaml: no such recipe"),
        (["environment.max_step=3"], "did you mean 'max_steps'?"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    message: str,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(data.parent)
    for name in ("text.sqlite", "text.duckdb", "text.txt"):
        Path(name).write_text("# no database, this is text\nexecutes\n" * 50)
    typing(monkeypatch, "")
    assert main(["play", *words]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""
