"""What is kept until work is done, while several threads keep and let go."""

import threading

import numpy as np
import pytest

from interop.backends.cuda.deferred_release import DeferredRelease, all_done


class Work:
    """Work on a device that ends when the test says so."""

    def __init__(self):
        self.is_done = False

    def __call__(self):
        return self.is_done


def test_what_is_not_done_is_kept_and_what_is_done_is_not():
    kept, first, second = DeferredRelease(), Work(), Work()
    kept.add("stream", first, "a")
    kept.add("stream", second, "b")
    kept.release_completed()
    assert len(kept) == 2
    first.is_done = True
    kept.release_completed()
    assert len(kept) == 1
    second.is_done = True
    kept.release_completed()
    assert len(kept) == 0


def test_one_slow_stream_holds_nothing_of_another():
    kept, slow, fast = DeferredRelease(), Work(), Work()
    kept.add("slow", slow, "a")
    kept.add("fast", fast, "b")
    fast.is_done = True
    kept.release_completed()
    assert len(kept) == 1


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_what_comes_in_between_lets_go_of_nothing(kind):
    """An error of the device that an event says, or a user who interrupts."""
    kept, failing, done = DeferredRelease(), [kind], Work()
    done.is_done = True

    def is_done():
        if failing:
            raise failing.pop()
        return True

    for question in (is_done, done, done):
        kept.add("stream", question, "memory")
    with pytest.raises(kind):
        kept.release_completed()
    assert len(kept) == 3
    kept.release_completed()
    assert len(kept) == 0


def test_what_comes_while_it_is_asked_is_kept():
    kept, late = DeferredRelease(), Work()

    def is_done():
        kept.release_completed()  # as another thread would: it lets go of what is just asked
        kept.add("stream", late, "later")
        return True

    kept.add("stream", Once(is_done), "memory")
    kept.release_completed()
    assert len(kept) == 1
    late.is_done = True
    kept.release_completed()
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
    kept = DeferredRelease()
    kept.defer("stream", lambda: all_done, "memory")
    assert len(kept) == 0
    kept.defer("stream", Work, "memory")  # the negative control
    assert len(kept) == 1


def test_a_stream_that_captures_is_asked_again_until_that_is_over_and_then_once():
    kept, work = DeferredRelease(), Work()
    asked, answers = [], [None, None, work]
    kept.defer("stream", lambda: asked.append(None) or answers[len(asked) - 1], "memory")
    assert len(asked) == 1
    for _ in range(3):
        kept.release_completed()
        assert len(kept) == 1
    assert len(asked) == 3
    work.is_done = True
    kept.release_completed()
    assert len(kept) == 0
    assert len(asked) == 3


def test_arrays_that_are_kept_are_not_compared():
    kept, done = DeferredRelease(), Work()
    done.is_done = True
    for _ in range(2):
        kept.add("stream", done, np.ones(3))
    kept.release_completed()
    assert len(kept) == 0


def test_many_threads_lose_nothing():
    kept, works, start = DeferredRelease(), [[Work() for _ in range(50)] for _ in range(4)], threading.Event()

    def keeps(own):
        start.wait()
        for work in own:
            kept.add("stream", work, work)
            kept.release_completed()

    threads = [threading.Thread(target=keeps, args=(own,)) for own in works]
    for thread in threads:
        thread.start()
    start.set()
    for thread in threads:
        thread.join()
    there = {id(entry.owner) for queue in kept._waiting.values() for entry in queue}
    assert there == {id(work) for own in works for work in own}
