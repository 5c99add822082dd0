"""Bodies, selections and results as ledgers hold them from before messages and choices, and jobs from before lanes."""

from shared.contracts.jobs import Job
from shared.ledger.keys import LedgerKey

OLD_BODY = """{"input":"my card was declined","instruction":"Answer briefly.","label":"bank.cards",
"params":{"max_new_tokens":8,"temperature":0.5,"seed":7,"stop":["\\n"],"logprobs":true},
"priority":"batch","deadline_seconds":30.0,"metadata":{"who":"me"}}"""
OLD_SELECTION = """{"label":"bank.cards","probability":0.912345,"confidence":0.9999999,"best_label":"bank.cards",
"runners_up":[{"label":"bank.accounts","probability":0.05}],"label_set":["bank.cards"],"coverage":0.95,
"rejected":false,"threshold":0.5,"selector":"d1","by":"light","release":"rel_1","score_ms":1.25}"""
OLD_RESULT = """{"text":"Call us.","finish_reason":"length","label":"bank.cards","adapter":"d2",
"adapter_ref":"bank.cards@1","release":"rel_1","selector":"d1","base_model":"tiny","prompt_tokens":31,
"prompt_shortened":true,"generated_tokens":3,"first_token_ms":12.5,"generate_ms":40.25,
"token_ids":[1,2,3],"logprobs":[-0.1,0.0,-2.5]}"""


def job_of(**fields):
    known = {
        "id": "job_1",
        "tenant_id": "t",
        "state": "succeeded",
        "stage": "select",
        "queue": "select",
        "at_queued": "1",
    }
    return Job.from_hash({"kind": "generate", "body": OLD_BODY, **known, **fields})


def lane_keys(ledger):
    """Every key that says which job is next."""
    patterns = (LedgerKey.LANE, LedgerKey.TURNS, LedgerKey.INTERACTIVE_RUN)
    return [key for name in patterns for key in ledger.redis.scan_iter(name.pattern)]


def take_out_of_lanes(ledger, queue, *job_ids):
    """Put waiting jobs into the form in which an earlier version left them: by time, in no lane, without priority."""
    for key in lane_keys(ledger):
        ledger.redis.delete(key)
    for number, job_id in enumerate(job_ids):
        ledger.redis.hdel(LedgerKey.JOB.of(job_id), "priority", "tokens")
        ledger.redis.zadd(LedgerKey.WAITING.of(queue), {job_id: 1000.5 + number})
