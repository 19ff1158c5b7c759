"""Waits of runners that move one branch."""

from hypothesis import given
from hypothesis import strategies as st

from tunestack_train.experiments.turns import Turns

TRIES = st.lists(st.tuples(st.booleans(), st.floats(0.001, 600)), max_size=60)


def turns() -> Turns:
    """At noon for ever, and always with the longest wait that could be drawn."""
    return Turns(clock=lambda: 1000.0, draw=lambda _, most: most)


def test_who_is_alone_does_not_wait() -> None:
    alone = turns()
    for _ in range(10):
        alone.won(2.0)
        assert not alone.contended
        assert alone.at == 1000.0


def test_waits_grow_with_each_loss_and_outlive_the_push() -> None:
    crowded = turns()
    waits = []
    for _ in range(4):
        crowded.lost(2.0)
        waits.append(crowded.at - 1000.0)
    assert waits == sorted(waits)
    assert waits[0] == 2.0
    assert waits[-1] > waits[0]
    crowded.won(2.0)
    assert crowded.contended
    assert 0 < crowded.at - 1000.0 < waits[-1]


def test_a_refusal_that_came_quickly_does_not_make_the_wait_short() -> None:
    crowded = turns()
    crowded.lost(10.0)
    crowded.lost(0.1)
    assert crowded.at - 1000.0 > 5.0


@given(TRIES)
def test_a_wait_is_bounded_and_wins_end_it(tries: list[tuple[bool, float]]) -> None:
    any_turns = turns()
    for won, seconds in tries:
        (any_turns.won if won else any_turns.lost)(seconds)
        assert 0.0 <= any_turns.at - 1000.0 <= 30.0
    for _ in range(8):
        any_turns.won(1.0)
    assert not any_turns.contended
    assert any_turns.at == 1000.0
