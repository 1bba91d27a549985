import pytest

from histomri.core.progress import share_of


def test_steps_of_a_task_follow_each_other():
    told = []
    first, second = share_of(told.append, 0.0, 0.25), share_of(told.append, 0.25, 1.0)
    for step in (first, share_of(second, 0.0, 0.5), share_of(second, 0.5, 1.0)):
        step(0.0)
        step(1.0)
    assert told == pytest.approx([0, 0.25, 0.25, 0.625, 0.625, 1])


def test_nobody_needs_to_listen():
    share_of(share_of(None), 0.0, 0.5)(1.0)
