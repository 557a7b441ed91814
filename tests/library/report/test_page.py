"""The report is made from a run folder written here by hand, with real records and real Parquet."""

import json
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from mtsql.chains.chain import Query
from mtsql.dialogue import Hardness
from mtsql.errors import DataError
from mtsql.evaluation.records import Judgement
from mtsql.evaluation.scores import ScoredTurn, summarise
from mtsql.protocol import ActionName, Answer, ToolCall
from mtsql.report.charts import bar_chart, line_chart, running_mean
from mtsql.report.fine_tuning import warm_start_section
from mtsql.report.html import gain_text
from mtsql.report.page import write_report
from mtsql.report.rl import rl_section
from mtsql.report.scores import summary_section, summary_table, summary_tables
from mtsql.runs.folder import RunFolder
from mtsql.runs.metrics import read_rows
from mtsql.runs.records import SplitGain, Summary
from mtsql.trajectory.attempt import Attempt, Label
from mtsql.trajectory.records import Ending, Step, Trajectory
from mtsql.trajectory.reward import Reward
from mtsql.trajectory.store import write_trajectories
from mtsql.trajectory.tokens import TokenSequence

HOSTILE = "</pre><script>alert('x')</script><img src=x onerror=y>"
VOID = {"meta", "img", "br", "link", "hr", "input"}
REST = {"im_em": 0.2, "splits": {}}
SUMMARY = {
    "name": "demo",
    "warm_start": {"ex": 0.5, "em": 0.4, "qm": 0.5, "im": 0.25, **REST},
    "rl": {"ex": 0.625, "em": 0.45, "qm": 0.625, "im": 0.375, **REST},
    "gain": {"ex": 0.125, "ci95": [0.0471, 0.2029], "turns": 321, "splits": {}},
    "predicted": {"rl": {"ex": 0.6, "em": 0.4, "qm": 0.6, "im": 0.3, **REST}},
    "turns": 321,
    "seed": 7,
    "wall_s": {"data": 2.25, "rl": 300.5},
    "device": "cpu",
}


class Balanced(HTMLParser):
    """Fails on a tag that closes another one than it should."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()


def evaluation(policy: str, is_better: bool) -> dict:
    """Two dialogues of two turns: EX 2/4 at first, 3/4 later; no dialogue, then one of two."""
    matches: list[tuple[bool, Hardness]] = [
        (True, "easy"),
        (is_better, "hard"),
        (False, "extra"),
        (True, "easy"),
    ]
    rows = [
        ScoredTurn(
            dialogue_id=f"d{index // 2}",
            turn_index=index % 2,
            hardness=hardness,
            ex=match,
            em=match,
            status="ok",
            split="test",
        )
        for index, (match, hardness) in enumerate(matches)
    ]
    scores = asdict(summarise(rows))
    return {
        "policy": policy,
        "history": "gold",
        "elapsed_s": 1.0,
        "sampled_tokens": 10,
        "splits": {"test": scores},
        "all": scores,
        "abilities": {},
        "turns": [asdict(row) for row in rows],
    }


def trajectory(question: str, proposals: tuple[str, ...], ex: tuple[bool, ...]) -> Attempt:
    first = Step(
        message=HOSTILE,
        action=ToolCall(name=ActionName.PROPOSE, sql=proposals[0]),
        observation=HOSTILE,
        proposal=0,
    )
    last = Step(
        message="done",
        action=Answer(),
        observation=None,
        proposal=len(proposals) - 1,
        relation="corrects" if len(proposals) > 1 else None,
    )
    return Attempt(
        trajectory=Trajectory(
            turn_id="embedded-test-1/0",
            steps=(first, last),
            ending=Ending.ANSWERED,
            proposals=tuple(Query(sql) for sql in proposals),
            judgements=tuple(Judgement(ex=match, em=False, status="ok") for match in ex),
        ),
        dialogue_id="embedded-test-1",
        turn_index=0,
        db_id=HOSTILE,
        hardness="easy",
        question=question,
        gold_sql=HOSTILE,
        tokens=TokenSequence(),
        label=Label(policy="rl", split="test", history_mode="gold"),
        group="g",
        reward=Reward(outcome=1.5, parts={"verify": (None, None)}),
    )


def write_run(parent: Path) -> Path:
    folder = parent / "demo<b>"
    (folder / "metrics").mkdir(parents=True)
    (folder / "evaluation").mkdir()
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    rl = [
        {
            "step": step,
            "reward": 0.5 + 0.1 * step,
            "ex": 0.3,
            "ability/executed": 0.5,
            "ability/final_f1": 0.75,
            "endings": {"answered": 128, "malformed": 0},
            "curriculum": {"success/hard": 0.2, "success/easy": 0.4, "share/easy": 1.0},
            "logprob_diff": 2e-7 if step == 1 else None,
            "num_dropped": 1,
            "step_s": 4.0,
            "generate_s": 2.5,
        }
        for step in (1, 2, 2)  # the second step was played again after a resumption
    ]
    (folder / "metrics" / "rl.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rl))
    (folder / "metrics" / "warm_start.jsonl").write_text(
        '{"step": 1, "loss": 5.0, "lr": 0.1}\n{"step": 2, "loss": 2.125}\n'
    )
    for policy, is_better in (("warm_start", False), ("rl", True)):
        content = evaluation(policy, is_better)
        (folder / "evaluation" / f"{policy}-gold.json").write_text(json.dumps(content))
    write_trajectories(
        folder / "trajectories" / "rl-gold.parquet",
        [
            trajectory("one shot", ("SELECT 1",), (True,)),
            trajectory(HOSTILE, ("SELECT 2", "SELECT 3"), (False, True)),
            trajectory("worse", ("SELECT 4", "SELECT 5"), (True, False)),
        ],
    )
    return folder


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return write_run(tmp_path)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The whole report, drawn once: its charts take a second."""
    folder = write_run(tmp_path_factory.mktemp("report"))
    path = write_report(RunFolder(folder))
    assert path == folder / "report.html"
    assert not list(folder.glob("*.partial"))
    return path.read_text()


def check_page(page: str) -> None:
    reader = Balanced()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert not reader.seen & {"script", "img", "link", "iframe", "b"}
    assert "http" not in page
    assert "@import" not in page


def test_the_page_is_whole_offline_and_escaped(page: str) -> None:
    check_page(page)
    # Question 1; db_id, gold and two texts of three trajectories, and of the one that stands first.
    assert page.count("&lt;/pre&gt;&lt;script&gt;") == 1 + 1 + 4 * (3 + 1)


def test_the_page_shows_the_figures(page: str) -> None:
    assert "Clause F1 against gold" in page
    assert "+12.5 (+4.7 to +20.3)" in page
    assert "321 held-out turns" in page
    assert "<td>all</td><td>302.8</td>" in page  # 2.25 + 300.5 s
    assert "2 steps in 8 s; 2 trajectories dropped" in page  # step 2 counts once
    assert "rollout and learner on step 1: 2e-07 apart" in page
    # Bands stand in the order of difficulty, whichever the curriculum met first.
    assert page.index(">easy<") < page.index(">hard<")
    assert "2 steps; last loss 2.125" in page
    # split, history, policy, EX QM 3/4, EX IM 1/2, EM the same, turns, unjudged
    cells = ("test", "gold", "RL", "75.0", "50.0", "75.0", "50.0", "4", "0")
    assert "".join(f"<td>{cell}</td>" for cell in cells) in page
    assert "EX by hardness, test, gold history" in page
    assert "mends the answer of 1, does not mend that of 1, and 1 have none" in page
    # A mended answer is shown first, and once more, open, before all figures of the training.
    listed = page[page.index("<h2>Trajectories</h2>") :]
    assert listed.index("SELECT 3") < listed.index("SELECT 5") < listed.index("SELECT 1")
    assert "<details open>" not in listed
    opened = page.index("<details open>")
    assert opened < page.index("SELECT 3") < page.index("<h2>Reinforcement learning</h2>")
    assert page.index("<h2>Stages</h2>") > page.index("<h2>Trajectories</h2>")


def test_the_mistakes_of_the_scripts_are_shown(run_folder: Path, page: str) -> None:
    def section() -> str:
        run = RunFolder(run_folder)
        return warm_start_section(read_rows(run.metrics("warm_start")), run.read_script_facts())

    assert section() in page
    assert "Mistakes made on purpose" not in page
    (run_folder / "warm_start").mkdir()
    path = run_folder / "warm_start" / "facts.json"
    counts = {"made": 4, "share": 0.125, "noticed": 3, "repaired": 2, "right": 1}
    facts = {"num_trajectories": 32, "mistakes": {"missing_join": counts, HOSTILE: counts}}
    path.write_text(json.dumps({**facts, "shares": {"first_right": 0.5, "executed": 0.25}}))
    check_page(section())
    # share of all 32; noticed 3/4, repaired 2/4, right 1/4
    cells = ("missing join", "4", "12.5", "75.0", "50.0", "25.0")
    assert "".join(f"<td>{cell}</td>" for cell in cells) in section()
    assert "first right 50.0; executed 25.0" in section()
    # Facts without the key are those of a warm start that counted none.
    path.write_text('{"num_trajectories": 32}')
    assert "Mistakes made on purpose" not in section()
    path.write_text('{"mistakes": {"missing_join": {"made": "x"}}}')
    key = r"facts\.json: key 'mistakes\.missing_join\.made': .*; prepare the warm start again"
    with pytest.raises(DataError, match=key):
        write_report(RunFolder(run_folder))


def test_the_same_run_gives_the_same_page(run_folder: Path, page: str) -> None:
    assert write_report(RunFolder(run_folder)).read_bytes() == page.encode()


def test_missing_files_are_named(tmp_path: Path) -> None:
    page = write_report(RunFolder(tmp_path)).read_text()
    check_page(page)
    for name in ("summary.json", "rl.jsonl", "warm_start.jsonl", "evaluation/", "trajectories/"):
        assert name in page


def test_a_missing_folder_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such run folder"):
        write_report(RunFolder(tmp_path / "nothing"))


def test_a_broken_file_is_named_with_its_key(run_folder: Path) -> None:
    (run_folder / "summary.json").write_text(json.dumps({**SUMMARY, "seed": "x"}))
    with pytest.raises(DataError, match=r"summary\.json: key 'seed'"):
        write_report(RunFolder(run_folder))


def test_a_line_in_the_writing_is_left_out_and_a_broken_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rl.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "rew')
    assert read_rows(path) == [{"step": 1}]
    path.write_text('{"step": 1\n{"step": 2}\n')
    with pytest.raises(DataError, match="line 1 is not"):
        read_rows(path)


def test_the_terminal_table_has_both_policies_and_the_gain() -> None:
    console = Console(width=120, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(summary_table(Summary.model_validate(SUMMARY)))
    text = capture.get()
    assert "321 held-out turns, seed 7" in text
    line = next(line for line in text.splitlines() if "RL, gold" in line)
    assert line.replace("│", " ").split()[2:] == [
        *("62.5", "45.0", "62.5", "37.5"),
        *("+12.5", "(+4.7", "to", "+20.3)"),
    ]


def split_summary() -> Summary:
    """A known part that gains and an unknown one that stays at nothing."""
    none = {"em": 0.0, "qm": 0.0, "im": 0.0, "im_em": 0.0}
    parts = {"known": 0.75, "unknown": 0.0}
    splits = {name: {"ex": ex, **none} for name, ex in parts.items()}
    before = {"known": {"ex": 0.5, **none}, "unknown": {"ex": None, **none}}
    gains = {
        "known": {"ex": 0.25, "ci95": [0.1, 0.4], "turns": 200},
        "unknown": {"ex": 0.0, "ci95": None, "turns": 121},
    }
    return Summary.model_validate(
        {
            **SUMMARY,
            "warm_start": {**SUMMARY["warm_start"], "splits": before},
            "rl": {**SUMMARY["rl"], "splits": splits},
            "gain": {**SUMMARY["gain"], "splits": gains},
        }
    )


def test_scores_by_what_training_has_seen_stand_beside_the_headline() -> None:
    before = {"none": {"ex": None, "turns": 0}, "all": {"ex": 0.5, "turns": 4}}
    after = {"none": {"ex": None, "turns": 0}, "all": {"ex": 0.75, "turns": 4}}
    summary = Summary.model_validate(
        {
            **SUMMARY,
            "warm_start": {**SUMMARY["warm_start"], "by_seen": before},
            "rl": {**SUMMARY["rl"], "by_seen": after},
        }
    )
    section = summary_section(summary)
    check_page(section)
    for cells in (("none", "-", "-", "0"), ("all", "50.0", "75.0", "4")):
        assert "".join(f"<td>{cell}</td>" for cell in cells) in section
    (table,) = [one for one in summary_tables(summary) if "seen in training" in str(one.title)]
    assert table.row_count == 2
    assert "seen in training" not in summary_section(Summary.model_validate(SUMMARY))


def test_parts_of_the_held_out_turns_stand_beside_the_headline() -> None:
    section = summary_section(split_summary())
    check_page(section)
    rows = (
        ("", "warm start", "RL", "gain, points", "turns"),
        ("known", "50.0", "75.0", "+25.0 (+10.0 to +40.0)", "200"),
        ("unknown", "-", "0.0", "+0.0", "121"),
    )
    head, *others = rows
    assert "".join(f"<th>{cell}</th>" for cell in head) in section
    for cells in others:
        assert "".join(f"<td>{cell}</td>" for cell in cells) in section
    console = Console(width=120)
    with console.capture() as capture:
        for table in summary_tables(split_summary()):
            console.print(table)
    line = next(line for line in capture.get().splitlines() if "unknown" in line)
    assert line.replace("│", " ").split() == ["unknown", "-", "0.0", "+0.0", "121"]
    # One part says nothing more than the headline.
    assert len(summary_tables(Summary.model_validate(SUMMARY))) == 1


def test_a_running_mean_looks_back_and_leaves_out_what_is_not_there() -> None:
    # 1; (1+3)/2; (1+3)/2 without the gap; (3+5)/2
    assert running_mean([1.0, 3.0, None, 5.0], 3) == [1.0, 2.0, 2.0, 4.0]
    assert str(running_mean([None, 2.0], 2)) == "[nan, 2.0]"


def test_many_steps_are_drawn_as_dots_and_their_mean(page: str) -> None:
    note = "Lines are means of 5 steps"
    assert note not in page
    assert note in rl_section([{"step": step, "reward": step % 2} for step in range(1, 11)])
    assert note not in rl_section([{"step": step, "reward": step % 2} for step in range(1, 10)])


def test_chart_labels_are_escaped_and_gaps_allowed() -> None:
    svg = line_chart(HOSTILE, [1, 2, 3], {HOSTILE: [0.1, None, 0.4]}, is_share=True)
    check_page(svg)
    assert svg.startswith("<svg")
    check_page(bar_chart("x", ["easy", HOSTILE], {"warm start": [0.25, None]}))


def test_a_gain_is_shown_in_points_with_its_interval() -> None:
    assert gain_text(SplitGain(ex=0.125, ci95=(0.05, 0.2), turns=8)) == "+12.5 (+5.0 to +20.0)"
    assert gain_text(SplitGain(ex=0.125, ci95=None, turns=8)) == "+12.5"  # of one dialogue
    assert gain_text(None) == ""
