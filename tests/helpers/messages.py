"""What a model writes: messages of the dialect `actions`."""

from mtsql.protocol import ActionName, Answer, ToolCall, Verdict, render_action

EXECUTE = render_action(ToolCall(name=ActionName.EXECUTE))
ANSWER = render_action(Answer())


def propose(sql: str) -> str:
    return render_action(ToolCall(name=ActionName.PROPOSE, sql=sql))


def correct(sql: str) -> str:
    return render_action(ToolCall(name=ActionName.CORRECT, sql=sql))


def judge(verdict: Verdict) -> str:
    return render_action(ToolCall(name=ActionName.VERIFY, target="execution", verdict=verdict))
