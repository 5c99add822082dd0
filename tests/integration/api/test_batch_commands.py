"""`signalbox batch`: files that people have go in, answers come out."""

import asyncio
import json

import pytest

from services.cli.batch_files import batch_input
from shared.errors import Invalid
from tests.support.batches import answering, batch_worker


async def run(command, *words):
    process = await asyncio.to_thread(command, "batch", *words)
    out, err = await asyncio.to_thread(process.communicate)
    return process.returncode, out, err


@pytest.mark.slow  # half a minute of programs that are started
async def test_a_table_is_submitted_followed_and_downloaded(api, command, release, settings, tmp_path):
    (tmp_path / "faq.csv").write_text("nr,question\n1,did it rise?\n2,did it fall?\n")
    async with batch_worker(api["app"].state.clients):
        with answering(settings):
            words = ("submit", "faq.csv", "--column", "question", "--model", "fin.sa", "--wait", "--json")
            status, out, err = await run(command, *words)
    assert status == 0, err
    batch = json.loads(out)
    assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    status, out, err = await run(command, "download", batch["id"], "--to", "answers")
    assert status == 0, err
    (file,) = (tmp_path / "answers").iterdir()
    told = [json.loads(line) for line in file.read_text().splitlines()]
    assert [one["custom_id"] for one in told] == ["line-2", "line-3"]
    assert told[0]["response"]["body"]["choices"][0]["message"]["content"] == "re: did it rise?"
    status, out, _ = await run(command, "list")
    assert batch["id"] in out


async def test_what_is_wrong_is_told_by_line_and_ends_with_an_error(api, command, release, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "model": "gpt-9"}\n{"input": "b"}\n')
    async with batch_worker(api["app"].state.clients):
        status, out, err = await run(command, "submit", "rows.jsonl", "--wait")
    assert status == 1
    assert "failed" in out
    assert "line 1: model_not_found" in err
    status, _, err = await run(command, "cancel", "batch_x")
    assert status == 1
    assert "batch_not_found" in err


def lines_of(path, text, **options):
    path.write_text(text)
    asked = {"column": "", "endpoint": "/v1/chat/completions", "model": "auto", "max_tokens": None} | options
    return [json.loads(line) for line in batch_input(path, **asked).splitlines()]


def test_plain_inputs_become_requests_of_the_endpoint_and_requests_stay(tmp_path):
    ready = {"custom_id": "x", "method": "POST", "url": "/v1/select", "body": {"input": "a"}}
    rows = f'{json.dumps(ready)}\n\n{{"input": "b", "custom_id": "y"}}\n'
    assert lines_of(tmp_path / "rows.jsonl", rows, endpoint="/v1/select") == [
        ready,
        {"custom_id": "y", "method": "POST", "url": "/v1/select", "body": {"input": "b"}},
    ]
    (text,) = lines_of(tmp_path / "rows.jsonl", '{"input": "b"}', endpoint="/v1/completions", max_tokens=5)
    assert text["body"] == {"model": "auto", "prompt": "b", "max_tokens": 5}


@pytest.mark.parametrize(
    ("name", "text", "options", "code"),
    [
        ("rows.jsonl", "{", {}, "line_malformed"),
        ("rows.jsonl", '{"text": "a"}', {}, "line_malformed"),
        ("rows.csv", "question\na\n", {}, "column_unknown"),
        ("rows.csv", "question\na\n", {"column": "answer"}, "column_unknown"),
    ],
)
def test_a_file_that_makes_no_batch_is_refused_by_its_line_or_columns(tmp_path, name, text, options, code):
    with pytest.raises(Invalid) as error:
        lines_of(tmp_path / name, text, **options)
    assert error.value.code == code
    assert str(tmp_path) in error.value.detail
