"""The master decides when to start, retire and stop workers."""

from gateway.processes.rolling_restart import (
    FIRST_PAUSE,
    LAST_PAUSE,
    Action,
    AllServing,
    ExitMaster,
    MasterState,
    RestartDone,
    RestartLater,
    RetireWorker,
    RollingRestart,
    StartWorker,
    StopListening,
    StopWorker,
    WorkerInstance,
    WorkerState,
)

LATER = 1000.0


def starts(actions: list[Action]) -> list[WorkerInstance]:
    return [one.worker for one in actions if isinstance(one, StartWorker)]


def started(actions: list[Action]) -> WorkerInstance:
    (worker,) = starts(actions)
    return worker


def serving(count: int = 2) -> tuple[RollingRestart, list[WorkerInstance]]:
    """A fleet of workers that all serve, in the order of their slots."""
    fleet = RollingRestart(count)
    first = started(fleet.begin(0.0))
    others = starts(fleet.on_ready(first, 0.0))
    for worker in others:
        fleet.on_ready(worker, 0.0)
    assert fleet.state is MasterState.RUNNING
    return fleet, [first, *others]


def test_the_first_worker_starts_alone_then_all_others():
    fleet = RollingRestart(3)
    first = started(fleet.begin(0.0))
    assert (first.number, first.start) == (1, 1)
    others = starts(fleet.on_ready(first, 1.0))
    assert [worker.number for worker in others] == [2, 3]
    assert fleet.on_ready(others[1], 2.0) == []
    assert fleet.on_ready(others[0], 2.0) == [AllServing()]
    assert fleet.state is MasterState.RUNNING


def test_a_worker_that_cannot_start_ends_the_master_with_its_exit_code():
    fleet = RollingRestart(2)
    first = started(fleet.begin(0.0))
    assert fleet.on_ended(first, 2, 1.0) == [ExitMaster(2)]
    fleet = RollingRestart(2)
    first = started(fleet.begin(0.0))
    second = started(fleet.on_ready(first, 1.0))
    assert fleet.on_ended(second, -9, 1.0) == [StopWorker(first)]
    assert fleet.on_ended(first, 0, 2.0) == [ExitMaster(1)]


def test_a_dead_worker_is_replaced_after_a_pause():
    fleet, (_, second) = serving()
    assert fleet.on_ended(second, -9, LATER) == [StopListening(2), RestartLater(2, FIRST_PAUSE)]
    (start,) = fleet.on_pause_over(2, LATER)
    assert isinstance(start, StartWorker)
    assert (start.worker.number, start.worker.start, start.succeeds) == (2, 2, second)
    assert fleet.on_pause_over(2, LATER) == []
    assert fleet.on_ready(start.worker, LATER) == []


def test_the_last_listening_slot_keeps_its_socket_open_for_a_successor():
    fleet, (first, second) = serving()
    assert StopListening(2) in fleet.on_ended(second, -9, LATER)
    assert fleet.on_ended(first, -9, LATER) == [RestartLater(1, FIRST_PAUSE)]


def test_restart_pauses_grow_up_to_a_limit_while_workers_die_early():
    fleet, (_, worker) = serving()
    now, pauses = LATER, []
    for _ in range(12):
        _, pause = fleet.on_ended(worker, 1, now)
        assert isinstance(pause, RestartLater)
        pauses.append(pause.seconds)
        worker = started(fleet.on_pause_over(2, now))
        now += 1.0
    assert pauses[:4] == [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4, FIRST_PAUSE * 8]
    assert pauses[-1] == LAST_PAUSE
    fleet.on_ready(worker, now)
    assert fleet.on_ended(worker, 1, now + LATER) == [StopListening(2), RestartLater(2, FIRST_PAUSE)]


def test_a_reload_replaces_slots_one_by_one_without_downtime():
    fleet, (first, second) = serving()
    fresh = started(fleet.reload(LATER))
    assert (fresh.number, fresh.start) == (1, 2)
    assert first.state is WorkerState.SERVING
    retire, start = fleet.on_ready(fresh, LATER)
    assert retire == RetireWorker(first)
    assert isinstance(start, StartWorker) and start.worker.number == 2
    assert fleet.on_ready(start.worker, LATER) == [RetireWorker(second), RestartDone()]
    assert fleet.state is MasterState.RUNNING
    assert fleet.on_ended(first, 0, LATER) == []
    assert fleet.on_ended(second, 0, LATER) == []


def test_a_failed_new_worker_ends_the_reload_and_keeps_the_old_ones():
    fleet, (first, second) = serving()
    fresh = started(fleet.reload(LATER))
    assert fleet.on_ended(fresh, 1, LATER) == [RestartDone(failed=1)]
    assert fleet.state is MasterState.RUNNING
    assert (first.state, second.state) == (WorkerState.SERVING, WorkerState.SERVING)


def test_a_worker_dying_while_its_successor_starts_needs_no_other_replacement():
    fleet, (first, _) = serving()
    fresh = started(fleet.reload(LATER))
    assert fleet.on_ended(first, -11, LATER) == []
    assert [type(one) for one in fleet.on_ready(fresh, LATER)] == [StartWorker]


def test_a_slot_is_restarted_if_old_and_new_worker_fail():
    fleet, (first, _) = serving()
    fresh = started(fleet.reload(LATER))
    fleet.on_ended(first, -11, LATER)
    assert fleet.on_ended(fresh, 1, LATER) == [
        RestartDone(failed=1),
        StopListening(1),
        RestartLater(1, FIRST_PAUSE * 2),
    ]
    assert len(starts(fleet.on_pause_over(1, LATER))) == 1


def test_a_reload_fills_a_slot_in_its_restart_pause():
    fleet, (first, _) = serving()
    fleet.on_ended(first, 1, LATER)
    fresh = started(fleet.reload(LATER))
    assert fresh.number == 1
    assert fleet.on_pause_over(1, LATER) == []


def test_a_worker_started_before_the_reload_is_replaced_too():
    fleet, (first, _) = serving()
    fleet.on_ended(first, 1, LATER)
    replacement = started(fleet.on_pause_over(1, LATER))
    assert fleet.reload(LATER + 1) == []
    fresh = started(fleet.on_ready(replacement, LATER + 2))
    assert (fresh.number, fresh.start) == (1, 3)
    assert fleet.on_ready(fresh, LATER + 3)[0] == RetireWorker(replacement)


def test_reload_requests_during_a_reload_cause_one_more_reload():
    fleet, (_, second) = serving()
    fresh = started(fleet.reload(LATER))
    assert fleet.reload(LATER) == []
    assert fleet.reload(LATER) == []
    other = started(fleet.on_ready(fresh, LATER))
    retire, rolled, start = fleet.on_ready(other, LATER)
    assert (retire, rolled) == (RetireWorker(second), RestartDone())
    assert isinstance(start, StartWorker) and (start.worker.number, start.worker.start) == (1, 3)


def test_a_reload_waits_until_all_workers_serve():
    fleet = RollingRestart(2)
    first = started(fleet.begin(0.0))
    assert fleet.reload(1.0) == []
    second = started(fleet.on_ready(first, 1.0))
    opened, start = fleet.on_ready(second, 2.0)
    assert opened == AllServing()
    assert isinstance(start, StartWorker) and start.worker.number == 1


def test_a_stop_also_reaches_starting_and_retiring_workers():
    fleet, (first, second) = serving()
    fresh = started(fleet.reload(LATER))
    other = started(fleet.on_ready(fresh, LATER))
    assert fleet.stop() == [StopWorker(first), StopWorker(second), StopWorker(fresh), StopWorker(other)]
    assert fleet.stop() == []
    assert fleet.on_ready(other, LATER) == []
    for worker in (first, second, fresh):
        assert fleet.on_ended(worker, 0, LATER) == []
    assert fleet.on_ended(other, 0, LATER) == [ExitMaster(0)]


def test_no_worker_is_started_during_a_stop():
    fleet, (first, second) = serving()
    fleet.on_ended(second, 1, LATER)
    fleet.stop()
    assert fleet.on_pause_over(2, LATER) == []
    assert fleet.reload(LATER) == []
    assert fleet.on_ended(first, 0, LATER) == [ExitMaster(0)]


def test_a_worker_failure_during_a_stop_sets_the_exit_code():
    fleet, (first, second) = serving()
    fleet.stop()
    fleet.on_ended(first, -9, LATER)
    assert fleet.on_ended(second, 0, LATER) == [ExitMaster(1)]


def test_a_stop_without_running_workers_exits_at_once():
    fleet = RollingRestart(1)
    (worker,) = starts(fleet.begin(0.0))
    fleet.on_ready(worker, 0.0)
    fleet.on_ended(worker, 1, LATER)
    assert fleet.stop() == [ExitMaster(0)]
