"""What is kept until work is done, while several threads keep and let go."""

import threading

import numpy as np
import pytest

from interop.backends.cuda.deferred_release import Kept, all_done


class Work:
    """Work on a device that ends when the test says so."""

    def __init__(self):
        self.is_done = False

    def __call__(self):
        return self.is_done


def test_what_is_not_done_is_kept_and_what_is_done_is_not():
    kept, first, second = Kept(), Work(), Work()
    kept.keep("stream", first, "a")
    kept.keep("stream", second, "b")
    kept.settle()
    assert len(kept) == 2
    first.is_done = True
    kept.settle()
    assert len(kept) == 1
    second.is_done = True
    kept.settle()
    assert len(kept) == 0


def test_one_slow_stream_holds_nothing_of_another():
    kept, slow, fast = Kept(), Work(), Work()
    kept.keep("slow", slow, "a")
    kept.keep("fast", fast, "b")
    fast.is_done = True
    kept.settle()
    assert len(kept) == 1


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_what_comes_in_between_lets_go_of_nothing(kind):
    """An error of the device that an event says, or a user who interrupts."""
    kept, failing, done = Kept(), [kind], Work()
    done.is_done = True

    def is_done():
        if failing:
            raise failing.pop()
        return True

    for question in (is_done, done, done):
        kept.keep("stream", question, "memory")
    with pytest.raises(kind):
        kept.settle()
    assert len(kept) == 3
    kept.settle()
    assert len(kept) == 0


def test_what_comes_while_it_is_asked_is_kept():
    kept, late = Kept(), Work()

    def is_done():
        kept.settle()  # as another thread would: it lets go of what is just asked
        kept.keep("stream", late, "later")
        return True

    kept.keep("stream", Once(is_done), "memory")
    kept.settle()
    assert len(kept) == 1
    late.is_done = True
    kept.settle()
    assert len(kept) == 0


class Once:
    """A question that is asked again while it is answered."""

    def __init__(self, answer):
        self.answer, self.is_asked = answer, False

    def __call__(self):
        if self.is_asked:
            return True
        self.is_asked = True
        return self.answer()


def test_what_has_nothing_to_wait_for_is_not_kept():
    kept = Kept()
    kept.keep_for("stream", lambda: all_done, "memory")
    assert len(kept) == 0
    kept.keep_for("stream", Work, "memory")  # the negative control
    assert len(kept) == 1


def test_a_stream_that_captures_is_asked_again_until_that_is_over_and_then_once():
    kept, work = Kept(), Work()
    asked, answers = [], [None, None, work]
    kept.keep_for("stream", lambda: asked.append(None) or answers[len(asked) - 1], "memory")
    assert len(asked) == 1
    for _ in range(3):
        kept.settle()
        assert len(kept) == 1
    assert len(asked) == 3
    work.is_done = True
    kept.settle()
    assert len(kept) == 0
    assert len(asked) == 3


def test_arrays_that_are_kept_are_not_compared():
    kept, done = Kept(), Work()
    done.is_done = True
    for _ in range(2):
        kept.keep("stream", done, np.ones(3))
    kept.settle()
    assert len(kept) == 0


def test_many_threads_lose_nothing():
    kept, works, start = Kept(), [[Work() for _ in range(50)] for _ in range(4)], threading.Event()

    def keeps(own):
        start.wait()
        for work in own:
            kept.keep("stream", work, work)
            kept.settle()

    threads = [threading.Thread(target=keeps, args=(own,)) for own in works]
    for thread in threads:
        thread.start()
    start.set()
    for thread in threads:
        thread.join()
    there = {id(thing.what) for queue in kept._waiting.values() for thing in queue}
    assert there == {id(work) for own in works for work in own}
