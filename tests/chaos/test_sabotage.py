"""The suite itself, proved by mutation: with one safeguard taken away, the row that is about it goes red."""

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # rows bound themselves


def test_without_fencing_stale_writes_are_seen(broken):
    assert "stale_or_doubled_writes" in broken(2, "no_fencing", freezes=4, patience_seconds=20)


def test_without_the_reconciler_accepted_jobs_are_lost(broken):
    assert "accepted_jobs_lost" in broken(1, "no_reconciler", patience_seconds=8)


def test_without_the_tenant_check_one_tenant_reads_anothers_jobs(broken):
    assert "leaks_to_another_tenant" in broken(13, "no_tenants")


def test_without_its_check_a_training_job_promotes_for_a_key_that_may_not(broken):
    assert "promoted_without_scope" in broken(21, "no_promote_scope")


def test_without_the_digest_check_damaged_uploads_come_in(broken):
    assert "mutants_not_refused" in broken(9, "no_upload_digest")


def test_without_the_digest_check_torn_adapters_are_loaded(broken):
    assert "torn_adapters_loaded" in broken(12, "no_fetch_digest", kills=0, slow=0, full=0, patience_seconds=20)


def test_without_lanes_whoever_comes_last_waits_for_all(broken):
    found = broken(17, "no_lanes", kills=0)
    assert {"overtaken_by_batch_backlog", "overtaken_by_label_backlog"} <= set(found)


def test_without_budgets_a_tenant_takes_all_of_the_ledger(broken):
    assert "hog_refused_429_with_retry_after" in broken(18, "no_budget")


def test_where_the_last_try_is_not_alone_poison_takes_others_along(broken):
    assert "good_jobs_done" in broken(5, "no_last_try_alone", poison=4)


def test_without_the_check_of_the_base_model_another_one_answers(broken):
    assert "base_mismatch_answers" in broken(20, "no_base_check", rounds=3, jobs_per_second=12.0)
