"""When the resident agent acts: bursts folded, contests backed off, failures tried again ever later."""

from __future__ import annotations

import itertools

from agent.watch.calm import FIRST_PAUSE, FOLD, FREE, LONGEST_FOLD, LONGEST_PAUSE, VAIN, WINDOW, Calm


def test_a_burst_is_one_turn() -> None:
    calm = Calm()
    calm.touch(["a"], 100.0)
    calm.touch(["b", "a"], 100.002)
    assert calm.take(100.004) == []
    assert calm.next_due() == 100.002 + FOLD
    assert sorted(calm.take(100.002 + FOLD)) == ["a", "b"]
    assert calm.next_due() is None and calm.take(200.0) == []


def test_what_never_stops_is_looked_at_all_the_same() -> None:
    calm, now, taken = Calm(), 0.0, []
    while now < 10 * LONGEST_FOLD:
        calm.touch(["log"], now)
        taken += calm.take(now)
        now += FOLD / 2
    assert 5 <= len(taken) <= 12


def test_one_does_not_wait_for_another() -> None:
    calm = Calm()
    calm.touch(["a"], 0.0)
    calm.touch(["b"], 0.004)
    assert calm.take(FOLD) == ["a"]
    assert calm.take(0.004 + FOLD) == ["b"]


def fight(calm: Calm, rounds: int) -> list[float]:
    """Two managers: each repair is undone at once; gives the moments of the repairs."""
    now, moments = 0.0, []
    calm.touch(["x"], now)
    while len(moments) < rounds:
        due = calm.next_due()
        assert due is not None
        now = max(now, due)
        assert calm.take(now) == ["x"]
        moments.append(now)
        calm.repaired("x", now)
        calm.touch(["x"], now + 0.001)
    return moments


def test_a_contest_is_backed_off_exponentially() -> None:
    calm = Calm()
    moments = fight(calm, FREE + 14)
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert all(gap < 2 * LONGEST_FOLD for gap in gaps[: FREE - 1])
    assert gaps[FREE] >= FIRST_PAUSE
    paused = gaps[FREE:]
    assert all(later >= earlier - 0.001 for earlier, later in itertools.pairwise(paused))
    assert abs(paused[-1] - LONGEST_PAUSE) < 1
    assert calm.is_contested("x", moments[-1])


def test_a_contest_is_told_once_and_forgotten_when_it_is_over() -> None:
    calm = Calm()
    told = [calm.repaired("x", float(second)) for second in range(FREE + 3)]
    assert told.count(True) == 1 and told[FREE]
    later = 20.0 + 5 * WINDOW
    assert not calm.is_contested("x", later)
    assert not calm.repaired("x", later)
    calm.touch(["x"], later)
    assert calm.next_due() == later + FOLD


def test_people_who_edit_now_and_then_meet_no_pause() -> None:
    calm = Calm()
    assert not any(calm.repaired("x", minute * 30.0) for minute in range(200))
    assert not calm.is_contested("x", 6000.0)


def test_what_failed_is_tried_again_later_and_later() -> None:
    calm = Calm()
    pauses = [calm.failed("x", 0.0) for _ in range(12)]
    assert pauses[0] == FIRST_PAUSE and pauses[-1] == LONGEST_PAUSE
    assert pauses == sorted(pauses)
    assert calm.take(LONGEST_PAUSE - 1) == []
    assert calm.take(LONGEST_PAUSE + 1) == ["x"]
    calm.settled("x")
    assert calm.failed("x", 1000.0) == FIRST_PAUSE


def test_an_event_brings_the_next_try_forward_unless_it_failed_often() -> None:
    calm = Calm()
    for count in range(1, 6):
        calm.failed("x", 100.0)
        calm.touch(["x"], 100.1)
        assert (calm.next_due() == 100.1 + FOLD) == (count <= 3)
        calm.take(1000.0)


def test_after_many_failures_events_bring_it_forward_as_far_as_it_costs_little() -> None:
    for took, least in ((0.1, 10.0), (1.0, 50.0), (20.0, LONGEST_PAUSE)):
        calm = Calm()
        for _ in range(12):
            calm.failed("x", 0.0, took)
        for now in (1.0, 2.0, 3.0):
            calm.touch(["x"], now)
        assert calm.next_due() == least


def test_what_was_blocked_is_tried_as_soon_as_it_can_be() -> None:
    calm = Calm()
    calm.failed("x", 100.0)
    calm.hasten("x", 100.2)
    assert calm.take(100.2) == ["x"]


def test_what_is_dropped_does_not_come_back() -> None:
    calm = Calm()
    calm.touch(["a", "b"], 0.0)
    calm.drop(["a"])
    assert calm.take(1.0) == ["b"]


def test_who_makes_noise_without_end_costs_little() -> None:
    calm, now, looks = Calm(), 0.0, 0
    while now < 10.0:
        calm.touch(["noisy"], now)
        now += FOLD
        for _ in calm.take(now):
            looks += 1
            calm.in_vain("noisy", now, 0.02)
    assert VAIN < looks < 30
    calm.repaired("noisy", now)
    calm.touch(["noisy"], now)
    assert calm.take(now + FOLD) == ["noisy"]
