"""Cycles of litequeue and huey: enqueue, claim, finish. Arguments: which, the database, how many are under way at once, and
how many each of those makes. Both write with synchronous=FULL."""

import json
import sqlite3
import sys
import threading
import time


def litequeue_cycle(database):
    from litequeue import LiteQueue

    def in_thread():
        connection = sqlite3.connect(database, timeout=60, check_same_thread=False)
        queue = LiteQueue(connection)
        connection.execute("PRAGMA synchronous=FULL")

        def cycle(number):
            queue.put(str(number))
            message = queue.pop()
            if message is None:
                return 0
            queue.done(message.message_id)
            return 1

        return cycle

    in_thread()
    return in_thread


def huey_cycle(database):
    from huey import SqliteHuey

    huey = SqliteHuey(filename=database, fsync=True, timeout=60)

    @huey.task()
    def work(number):
        return number

    def in_thread():
        def cycle(number):
            huey.enqueue(work.s(number))
            task = huey.dequeue()
            if task is None:
                return 0
            huey.execute(task)
            return 1

        return cycle

    return in_thread


def main():
    which, database, at_once, each = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    in_thread = {"litequeue": litequeue_cycle, "huey": huey_cycle}[which](database)
    made = [0] * at_once

    def run(at):
        cycle = in_thread()
        while made[at] < each:
            made[at] += cycle(at)

    threads = [threading.Thread(target=run, args=(at,)) for at in range(at_once)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"cycles": sum(made), "seconds": time.monotonic() - began}))


main()
