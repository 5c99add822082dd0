"""Jobs that have been selected and answered, as reviewers find them."""

from shared.contracts.jobs import JobState
from shared.ledger import calls

FIN = "generate.fin"


async def answered(client, worker, ledger, text, label="fin.sa", probability=0.9, answer="positive", **selection):
    """The id of a routed job that was answered; a job without a label is rejected and answered by nobody."""
    job_id = (await client.post("/v1/jobs", json={"input": text, **selection.pop("sent", {})})).json()["id"]
    job = worker.take(job_id, "select")
    found = {"label": label, "best_label": label or "fin.sa", "probability": probability, "by": "light", **selection}
    if label is None:
        ledger.do(calls.finish(job, JobState.REJECTED, selection=found | {"rejected": True}))
        return job_id
    ledger.do(calls.route(job, queue=FIN, label=label, selection=found))
    worker.run(job_id, FIN, text=answer)
    return job_id
