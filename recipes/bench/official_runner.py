"""The official evaluator, run as it is: one pair at a time, with its verdicts and its time.

A separate program, for an interpreter that has nltk and sqlparse, which this project does not
need. It reads one JSON object that says what to do and then one pair a line, and answers each pair
with one line at once, so that its reader sees where it hangs.

NLTK's word_tokenize first cuts a text into sentences, with a model that would have to be
downloaded. Here a query is one sentence: its words come from the same rules.
"""

import contextlib
import importlib
import io
import json
import os
import sys
import time
import warnings
from typing import Any

EMPTY = {"except": None, "from": {"conds": [], "table_units": []}, "groupBy": [], "having": []}
EMPTY |= {"intersect": None, "limit": None, "orderBy": [], "select": [False, []]}
EMPTY |= {"union": None, "where": []}


def main() -> None:
    job = json.loads(sys.stdin.readline())
    if job["core"] is not None:
        os.sched_setaffinity(0, {job["core"]})
    warnings.simplefilter("ignore")
    sys.path.insert(0, job["checkout"])
    nltk: Any = importlib.import_module("nltk")
    nltk.word_tokenize = nltk.tokenize.NLTKWordTokenizer().tokenize
    evaluation = importlib.import_module("evaluation")
    exec_eval = importlib.import_module("exec_eval")

    keys = evaluation.build_foreign_key_map_from_json(job["tables"])
    for line in sys.stdin:
        pair = json.loads(line)
        with contextlib.redirect_stdout(io.StringIO()):
            answer = judge(evaluation, exec_eval, job, keys, pair)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def judge(
    evaluation: Any,  # noqa: ANN401 - modules of the checkout
    exec_eval: Any,  # noqa: ANN401
    job: dict[str, Any],
    keys: dict[str, Any],
    pair: dict[str, str],
) -> dict[str, Any]:
    """What the loop in the official `evaluate` does with one pair."""
    pred = pair["pred"].replace("value", "1")
    db = os.path.join(job["db_root"], pair["db_id"], pair["db_id"] + ".sqlite")  # noqa: PTH118
    answer: dict[str, Any] = {}
    started, cpu_started = time.perf_counter(), time.process_time()
    try:
        if job["what"] == "match":
            answer["em"], answer["hardness"], answer["partial"] = match(
                evaluation, db, keys[pair["db_id"]], pair["gold"], pred
            )
        else:
            answer["ex"] = bool(
                exec_eval.eval_exec_match(
                    db=db,
                    p_str=pred,
                    g_str=pair["gold"],
                    plug_value=job["plug_value"],
                    keep_distinct=job["keep_distinct"],
                    progress_bar_for_each_datapoint=False,
                )
            )
    except Exception as error:  # noqa: BLE001 - the official script ends with any of them
        answer["error"] = f"{type(error).__name__}: {error}"[:300]
    answer["seconds"] = time.perf_counter() - started
    answer["cpu_s"] = time.process_time() - cpu_started
    return answer


def match(
    evaluation: Any,  # noqa: ANN401
    db: str,
    keys: dict[str, str],
    gold_sql: str,
    pred_sql: str,
) -> tuple[bool, str, dict[str, Any]]:
    schema = evaluation.Schema(evaluation.get_schema(db))
    gold = evaluation.get_sql(schema, gold_sql)
    evaluator = evaluation.Evaluator()
    hardness = evaluator.eval_hardness(gold)
    try:
        pred = evaluation.get_sql(schema, pred_sql)
    except Exception:  # noqa: BLE001 - so does the official script
        pred = json.loads(json.dumps(EMPTY))
    rebuilt: list[Any] = []
    for query in (gold, pred):
        columns = evaluation.build_valid_col_units(query["from"]["table_units"], schema)
        query = evaluation.rebuild_sql_val(query)
        rebuilt.append(evaluation.rebuild_sql_col(columns, query, keys))
    is_match = bool(evaluator.eval_exact_match(rebuilt[1], rebuilt[0]))
    partial = {
        name: [score["label_total"], score["pred_total"], score["f1"]]
        for name, score in evaluator.partial_scores.items()
    }
    return is_match, hardness, partial


if __name__ == "__main__":
    main()
