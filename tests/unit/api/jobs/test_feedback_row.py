"""What feedback on an answer makes a row of."""

import json

import pytest

from services.api.jobs.feedback import feedback_row
from tests.support.old_jobs import job_of
from tests.support.tool_chats import ASKED, ROUND


@pytest.mark.parametrize(
    ("messages", "fields", "output"),
    [
        ([ASKED], {"rating": 1}, "It is 21 °C."),
        (ROUND, {"rating": 1}, ""),
        (ROUND, {"rating": 1, "output": "21 °C"}, "21 °C"),
    ],
    ids=["without tools", "from what a tool said", "written by hand"],
)
def test_a_right_answer_is_learnt_unless_it_follows_from_what_tools_said(messages, fields, output):
    body = json.dumps({"messages": [one.model_dump(mode="json", exclude_none=True) for one in messages]})
    job = job_of(body=body, label="bank.cards", result=json.dumps({"text": "It is 21 °C."}))
    row = feedback_row(job, fields)
    assert (row.input, row.output, str(row.label)) == (ASKED.text, output, "bank.cards")
