"""Which test shows that a field does what its comment says: each field of the task's and the pool's
messages has one.

A new field has no line here, and fails until it has.
"""

import pathlib
import re
from typing import Any

import pytest

from penstock.v1 import fleet_service_pb2, pool_service_pb2, task_pb2, task_service_pb2

INTEGRATION = pathlib.Path(__file__).resolve().parents[1] / "integration"

SHOWN: dict[str, dict[str, str]] = {
    "Task": {
        "name uid": "task_fields::test_names_and_uids_are_chosen_and_unique",
        "state attempt worker start_time end_time execution_time result result_content_type": (
            "tasks::test_a_task_goes_from_submit_to_result"
        ),
        "type payload content_type labels trace_context": (
            "task_fields::test_what_the_dispatcher_does_not_read_reaches_worker_and_reader"
        ),
        "priority": "task_fields::test_any_priority_counts_and_unset_is_the_pools",
        "schedule_time": "tasks::test_a_scheduled_task_waits_for_its_time",
        "expire_time": "task_fields::test_a_task_that_does_not_start_in_time_expires",
        "execution_timeout": "task_fields::test_an_execution_time_out_of_its_own_or_the_pools",
        "retry_policy": "task_fields::test_unset_fields_of_a_policy_are_the_pools",
        "create_time": ("task_fields::test_what_the_dispatcher_writes_is_ignored_in_a_submission"),
        "worker_losses": "workers::test_heartbeats_keep_a_lease_and_silence_loses_it",
        "error": "task_fields::test_the_last_failure_is_shown_until_a_success",
        "etag": "task_fields::test_an_etag_changes_with_its_task",
        "fairness_key slots": "keys::test_shares_and_slots_are_seen",
        "concurrency_key": ("keys::test_no_more_of_a_concurrency_key_run_at_once_than_its_cap"),
        "progress": "progress::test_progress_is_shown_and_another_attempt_begins_anew",
        "queue_position estimated_wait": (
            "deadlines::test_where_a_task_stands_and_how_long_it_will_wait"
        ),
    },
    "RetryPolicy": {
        "max_attempts initial_backoff backoff_multiplier non_retryable_reasons": (
            "task_fields::test_a_policy_of_its_own"
        ),
        "max_backoff": "task_fields::test_unset_fields_of_a_policy_are_the_pools",
        "jitter": "task_fields::test_jitter_is_the_share_that_is_drawn",
    },
    "Progress": {
        "fraction message update_time checkpoint": (
            "progress::test_progress_is_shown_and_another_attempt_begins_anew"
        ),
    },
    "SubmitTaskRequest": {
        "parent": "refusals::test_what_is_not_there",
        "task": "tasks::test_a_task_goes_from_submit_to_result",
        "task_id": "task_fields::test_names_and_uids_are_chosen_and_unique",
        "request_id": (
            "refusals::test_the_same_request_is_the_same_task_even_when_the_pool_is_full"
        ),
        "admission": "waiting::test_the_best_who_waits_gets_in_and_the_bound_stays_exact",
        "max_wait": "waiting::test_nobody_waits_in_a_batch_or_longer_than_the_pool_lets",
        "validate_only": "tasks::test_validate_only_admits_nothing",
        "max_queue_time": "deadlines::test_one_is_refused_at_once_and_leaves_nothing",
    },
    "SubmitTaskResponse": {
        "task": "task_fields::test_what_the_dispatcher_writes_is_ignored_in_a_submission",
        "deduplicated": "tasks::test_a_batch_answers_each_request_by_itself",
    },
    "SubmitOutcome": {
        "request_id response error": "tasks::test_a_batch_answers_each_request_by_itself"
    },
    "BatchSubmitTasksRequest": {
        "parent": "task_fields::test_a_batch_is_for_one_pool",
        "requests": "refusals::test_a_batch_is_bounded",
        "atomic": "tasks::test_an_atomic_batch_is_all_or_nothing",
    },
    "BatchSubmitTasksResponse": {"outcomes": "tasks::test_a_submit_stream_answers_in_order"},
    "GetTaskRequest": {"name": "refusals::test_what_is_not_there"},
    "ListTasksRequest": {
        "parent filter page_token": "tasks::test_lists_are_filtered_and_paged",
        "page_size": "task_fields::test_pages_have_a_default_a_most_and_a_total",
        "order_by": "refusals::test_bad_names_and_pages_are_named",
    },
    "ListTasksResponse": {
        "tasks next_page_token": "tasks::test_lists_are_filtered_and_paged",
        "total_size": "task_fields::test_pages_have_a_default_a_most_and_a_total",
    },
    "WaitTaskRequest": {
        "name timeout": ("task_fields::test_to_wait_without_a_time_out_is_until_the_calls_deadline")
    },
    "WatchTasksRequest": {
        "parent": "watch::test_every_change_of_a_pool_in_order",
        "names": "watch::test_named_tasks_are_shown_first_and_others_never",
        "filter": "watch::test_a_filter_is_tested_at_each_change",
        "resume_token": "watch::test_it_is_resumed_from_the_last_event",
    },
    "TaskEvent": {
        "task previous_state event_time": "watch::test_every_change_of_a_pool_in_order",
        "resume_token": "watch::test_it_is_resumed_from_the_last_event",
    },
    "UpdateTaskRequest": {"task update_mask": "update::test_a_later_start_an_earlier_one_and_none"},
    "CancelTaskRequest": {
        "name reason": "tasks::test_a_running_task_is_cancelled_by_its_worker",
        "etag": "tasks::test_cancel_heeds_the_etag",
    },
    "BatchCancelTasksRequest": {
        "parent names": "bulk::test_names_are_there_all_of_them_or_nothing_is_done",
        "filter reason validate_only": "bulk::test_what_matches_is_cancelled_wherever_it_is",
    },
    "BatchCancelTasksResponse": {
        "cancelled_count names": "bulk::test_what_matches_is_cancelled_wherever_it_is"
    },
    "BatchRetryTasksRequest": {
        "parent names filter validate_only": "bulk::test_what_failed_waits_again"
    },
    "BatchRetryTasksResponse": {"retried_count names": "bulk::test_what_failed_waits_again"},
    "RetryTaskRequest": {"name": "afterlife::test_a_dead_letter_is_queued_again_and_can_succeed"},
    "DeleteTaskRequest": {"name etag": "afterlife::test_a_task_that_is_over_can_be_deleted"},
    "Pool": {
        "name uid generation max_pending": "pool_fields::test_a_pool_is_shown_as_configured",
        "state": "pool_fields::test_the_manifests_latch_is_another_one",
        "stats": "pool_fields::test_who_waits_is_counted",
        "drained": "drain::test_it_refuses_new_tasks_and_waits_for_the_accepted_ones",
        "restorable_tasks restorable_uid restorable_until": (
            "restore::test_a_pool_that_was_deleted_by_mistake_is_had_back"
        ),
    },
    "PoolStats": {
        "pending delayed oldest_pending_time arrival_rate pending_by_priority pending_bytes": (
            "pool_fields::test_who_waits_is_counted"
        ),
        "in_flight completion_rate mean_execution_time accepted_total succeeded_total"
        " failed_total slots_total": "pool_fields::test_what_runs_and_what_has_ended_is_counted",
        "waiters": "waiting::test_the_best_who_waits_gets_in_and_the_bound_stays_exact",
        "dead_lettered": "pool_fields::test_the_oldest_dead_letters_make_room",
        "rate_limit_tokens rate_limited_for": (
            "pool_fields::test_the_rate_limits_tokens_are_shown"
        ),
        "slots_used": "pool_fields::test_slots_in_use_are_leases_whoever_is_away",
        "estimated_wait": "pool_fields::test_how_long_a_newcomer_would_wait",
        "refused_total": "pool_fields::test_totals_begin_with_the_process",
    },
    "GetPoolRequest": {"name": "pool_fields::test_who_waits_is_counted"},
    "ListPoolsRequest": {
        "parent page_size page_token": "fleet::test_pools_are_listed_by_namespace_and_paged"
    },
    "ListPoolsResponse": {
        "pools next_page_token": "fleet::test_pools_are_listed_by_namespace_and_paged"
    },
    "PausePoolRequest": {
        "name": "fleet::test_pausing_is_a_latch_of_its_own_and_survives_a_restart",
        "reason": "pool_fields::test_the_log_says_why",
    },
    "ResumePoolRequest": {
        "name": "fleet::test_pausing_is_a_latch_of_its_own_and_survives_a_restart"
    },
    "DrainPoolRequest": {
        "name": "drain::test_it_refuses_new_tasks_and_waits_for_the_accepted_ones",
        "timeout": "drain::test_it_answers_when_the_time_is_up_and_goes_on_draining",
        "reason": "pool_fields::test_the_log_says_why",
    },
    "UndrainPoolRequest": {
        "name": "drain::test_who_waits_is_told_when_it_is_taken_back_or_the_dispatcher_stops"
    },
    "PurgePoolRequest": {
        "name filter force": "purge::test_a_preview_changes_nothing_and_force_deletes_what_waits"
    },
    "PurgePoolResponse": {
        "purge_count purge_sample": (
            "purge::test_a_preview_changes_nothing_and_force_deletes_what_waits"
        )
    },
    "RestorePoolRequest": {
        "name validate_only": "restore::test_a_pool_that_was_deleted_by_mistake_is_had_back",
        "from_uid": "restore::test_which_deleted_pool",
    },
    "RestorePoolResponse": {
        "restored_count restored_sample from_uid": (
            "restore::test_a_pool_that_was_deleted_by_mistake_is_had_back"
        ),
        "remaining skipped_count": "restore::test_what_was_submitted_again_is_not_run_twice",
    },
    "Worker": {
        "name pod_uid revision slots_total slots_used tasks last_heartbeat_time connect_time"
        " sdk_version idle_since_time task_types": "pool_fields::test_a_worker_is_shown_as_it_is",
        "state": "pool_fields::test_workers_are_found_by_state",
        "reservation_id": "pool_fields::test_a_worker_that_is_drained_finishes_and_nobody_waits",
        "gone": "pool_fields::test_the_operator_is_told_who_is_gone",
    },
    "ListWorkersRequest": {
        "parent page_size page_token": "pool_fields::test_workers_are_paged",
        "filter": "pool_fields::test_workers_are_found_by_state",
    },
    "ListWorkersResponse": {"workers next_page_token": "pool_fields::test_workers_are_paged"},
    "DrainWorkerRequest": {
        "name": "workers::test_drain_by_hand_and_back",
        "timeout": "pool_fields::test_a_worker_that_is_drained_finishes_and_nobody_waits",
        "reason": "pool_fields::test_the_log_says_why",
    },
    "UndrainWorkerRequest": {"name": "workers::test_drain_by_hand_and_back"},
    "PoolConfig": {
        "name uid generation max_pending": "pool_fields::test_a_pool_is_shown_as_configured",
        "paused": "pool_fields::test_the_manifests_latch_is_another_one",
        "max_pending_bytes": "refusals::test_the_bound_on_bytes_is_a_bound_too",
        "max_payload_bytes": "refusals::test_a_payload_that_never_fits_is_not_retried",
        "max_waiters": "waiting::test_no_more_wait_than_may",
        "max_wait": "waiting::test_nobody_waits_in_a_batch_or_longer_than_the_pool_lets",
        "default_priority": "task_fields::test_any_priority_counts_and_unset_is_the_pools",
        "rate_limit": "admission::test_the_rate_holds_in_every_window_at_assignment",
        "max_in_flight": "pool_fields::test_no_more_run_at_once_than_the_cap",
        "lease_duration": "workers::test_heartbeats_keep_a_lease_and_silence_loses_it",
        "heartbeat_interval": "pool_fields::test_workers_are_told_the_times_of_their_pool",
        "cancel_grace": "workers::test_a_cancel_that_is_not_heeded_ends_with_its_grace",
        "reconnect_grace": (
            "crash::test_tasks_of_a_worker_that_does_not_return_wait_for_its_grace"
        ),
        "execution_timeout": "task_fields::test_an_execution_time_out_of_its_own_or_the_pools",
        "retry_policy": "task_fields::test_unset_fields_of_a_policy_are_the_pools",
        "max_worker_losses": "workers::test_a_task_that_loses_its_workers_is_dead_lettered",
        "result_retention dead_letter_retention": (
            "pool_fields::test_results_and_dead_letters_have_a_time_each"
        ),
        "ttl": "pool_fields::test_a_task_without_an_expire_time_has_the_pools",
        "max_dead_letters": "pool_fields::test_the_oldest_dead_letters_make_room",
        "pool_retention": "fleet::test_a_closed_pool_is_purged_after_its_retention",
        "max_pending_per_key": "keys::test_a_full_key_is_refused_by_itself",
        "priority_aging": "keys::test_a_task_gains_priority_by_waiting",
        "fairness_weights fair": "keys::test_shares_and_slots_are_seen",
        "rate_limit_per_key": "keys::test_the_rate_of_each_key_holds_in_every_window",
        "max_in_flight_per_key": (
            "keys::test_no_more_of_a_concurrency_key_run_at_once_than_its_cap"
        ),
        "slots_per_worker": "keys::test_a_task_that_no_worker_can_run_is_refused",
    },
    "RateLimit": {
        "tasks burst": "admission::test_the_rate_holds_in_every_window_at_assignment",
        "period": "pool_fields::test_the_rate_limits_tokens_are_shown",
    },
}


def messages() -> dict[str, Any]:
    """The messages that clients and people who operate pools read, and a pool's configuration."""
    found: dict[str, Any] = {}
    for module in (task_pb2, task_service_pb2, pool_service_pb2):
        found |= module.DESCRIPTOR.message_types_by_name
    for name in ("PoolConfig", "RateLimit"):
        found[name] = fleet_service_pb2.DESCRIPTOR.message_types_by_name[name]
    return found


@pytest.mark.parametrize("name", messages())
def test_each_field_has_a_test(name: str) -> None:
    listed = [field for fields in SHOWN[name] for field in fields.split()]
    assert sorted(listed) == sorted(field.name for field in messages()[name].fields)


def test_each_test_is_there() -> None:
    for fields in SHOWN.values():
        for test in fields.values():
            module, _, function = test.partition("::")
            text = (INTEGRATION / f"test_dispatcher_{module}.py").read_text()
            assert re.search(rf"^async def {function}\(", text, re.MULTILINE), test
