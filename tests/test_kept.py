"""What is kept until work is done, while several threads keep and let go."""

import threading

from interop.backends._kept import Kept


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


class Between(dict):
    """The queues, as a thread finds them which another one interrupts right after it found its own."""

    interrupt = None

    def setdefault(self, key, default):
        found = super().setdefault(key, default)
        if self.interrupt is not None:
            interrupt, self.interrupt = self.interrupt, None
            interrupt()
        return found


def test_nothing_is_lost_when_another_thread_looks_in_between():
    kept, done, work = Kept(), Work(), Work()
    done.is_done = True
    kept._waiting = queues = Between()
    kept.keep("stream", done, "gone by then")
    queues.interrupt = kept.settle
    kept.keep("stream", work, "memory")
    kept.settle()
    assert len(kept) == 1
    work.is_done = True
    kept.settle()
    assert len(kept) == 0


def test_nothing_is_lost_when_something_comes_while_the_rest_is_put_back():
    kept, slow, late = Kept(), Work(), Work()
    kept._waiting = queues = Between()
    kept.keep("stream", slow, "memory")
    queues.interrupt = lambda: kept.keep("stream", late, "later")
    kept.settle()
    assert len(kept) == 2
    slow.is_done = late.is_done = True
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
    there = {id(what) for queue in kept._waiting.values() for _, what in queue}
    assert there == {id(work) for own in works for work in own}
