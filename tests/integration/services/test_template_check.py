"""`adapter.check`, and what a training says of the template of its adapter."""

from shared.contracts.jobs import JobState
from shared.contracts.rows import Row
from shared.contracts.templates import PromptTemplate

HOUSE = PromptTemplate(name="house", jinja="{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
LEARNT = {"epochs": 8, "rank": 8, "learning_rate": 0.02, "batch_size": 4, "max_length": 400, "dropout": 0}
LEARNT |= {"target_modules": "all-linear"}


def answers(count=24):
    return [Row(instruction="Say it.", input=f"word {at}", output="yes" if at % 2 else "no") for at in range(count)]


def trained(clients, jobs, run, template):
    clients.registry.datasets.add("t", "yes-no", answers())
    job = run(
        jobs.train(
            kind="adapter.train", label="bank.cards", dataset="yes-no", settings={**LEARNT, "template": template}
        )
    )
    assert job.state is JobState.SUCCEEDED, job.error
    return job


def test_a_training_says_which_template_its_adapter_answers_best_under(clients, jobs, run):
    clients.registry.templates.add("t", HOUSE)
    check = trained(clients, jobs, run, "house").result["template_check"]
    assert check["verdict"] in ("clear", "tie")
    assert {"chatml", "plain", "alpaca", "house"} <= {name for score in check["scores"] for name in score["templates"]}
    assert check["warning"] == ""
    assert clients.registry.adapters.get("t", "bank.cards").template == "house"


def test_a_wrong_template_is_found_and_the_right_one_set_as_a_new_version(clients, jobs, run):
    clients.registry.templates.add("t", HOUSE)
    trained(clients, jobs, run, "house")
    registry = clients.registry.adapters
    right = registry.get("t", "bank.cards@1")
    wrong = registry.add(
        clients.registry.weights.fetch(right.digest), right.model_copy(update={"template": "chatml", "made_by": ""})
    )
    checking = {"kind": "adapter.check", "adapter": wrong.ref, "dataset": "yes-no", "templates": ["chatml", "house"]}
    looked = run(jobs.new_training(**checking, set_template=False))
    assert looked.state is JobState.SUCCEEDED, looked.error
    assert (looked.result["verdict"], looked.result["best"], looked.result["ref"]) == ("clear", ["house"], wrong.ref)
    best, other = looked.result["scores"]
    assert best["loss"] < other["loss"]
    assert set(best) == {"templates", "doubt", "loss", "base_loss", "exact_match", "base_exact_match"}
    found = registry.get("t", run(jobs.new_training(**checking)).result["ref"])
    assert (found.template, found.digest) == ("house", right.digest)
    assert run(jobs.new_training(**checking | {"adapter": found.ref})).result["ref"] == found.ref


def test_examples_without_answers_are_refused(clients, jobs, run, adapters):
    clients.registry.datasets.add("t", "asked", [Row(input="a"), Row(input="b")])
    job = run(jobs.new_training(kind="adapter.check", adapter="bank.cards@1", dataset="asked"))
    assert (job.state, job.error["code"]) == (JobState.FAILED, "output_missing")


def test_a_named_template_that_does_not_fit_is_refused(clients, jobs, run, adapters):
    clients.registry.datasets.add("t", "yes-no", answers())
    checking = {"kind": "adapter.check", "adapter": "bank.cards@1", "dataset": "yes-no"}
    job = run(jobs.new_training(**checking, templates=["llama3"]))
    assert job.error["code"] == "template_tokens_missing"
    job = run(jobs.new_training(**checking, templates=["nowhere"]))
    assert job.error["code"] == "template_unknown"
