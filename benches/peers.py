"""Python's contestants: peers.py KIT FAMILY TOTAL PIECE PROGRAM, with KIT asyncio or twisted.

A line on stdin asks for one turn, and the seconds that it took are the answer, as of the contestants in Rust. What
comes is checked after the clock has stopped.
"""

import sys
import time

WIDTH = 64
BLOCK = bytes((i % 251) ^ ((i >> 8) & 255) for i in range(65536))


def line(number):
    return b"line %03d of them" % (number % 1000)


def expected(total):
    """Lines, bytes and digits of so many lines, which repeat after a thousand."""
    each = [line(number) for number in range(1000)]
    rounds, rest = divmod(total, 1000)
    size = sum(map(len, each)) * rounds + sum(map(len, each[:rest]))
    digits = sum(text[7] for text in each) * rounds + sum(text[7] for text in each[:rest])
    return (total, size, digits)


def is_pattern(data, total):
    pieces = (data[at:at + len(BLOCK)] for at in range(0, total, len(BLOCK)))
    return len(data) == total and all(piece == BLOCK[:len(piece)] for piece in pieces)


def turn_checked(family, total, found):
    if family == "latency":
        return found == (0, b"", b"")
    if family == "bulk":
        return found[0] == 0 and is_pattern(found[1], total)
    if family == "lines":
        return found == expected(total)
    return found == [(0, b"hi\n", b"")] * total


def command(family, total, piece, program):
    if family == "latency":
        return ["/bin/true"]
    if family == "bulk":
        return [program, "--child", "out", str(total), str(piece)]
    if family == "lines":
        return [program, "--child", "lines", str(total)]
    return ["/bin/echo", "hi"]


async def take_turns(family, total, run):
    # Nothing else is to be driven meanwhile, so reading may block.
    while sys.stdin.readline():
        start = time.perf_counter()
        found = await run()
        seconds = time.perf_counter() - start
        assert turn_checked(family, total, found)
        print(seconds, flush=True)


def with_asyncio(family, total, words):
    import asyncio
    from asyncio.subprocess import DEVNULL, PIPE

    async def output():
        child = await asyncio.create_subprocess_exec(*words, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
        out, err = await child.communicate()
        return (child.returncode, out, err)

    async def lines():
        child = await asyncio.create_subprocess_exec(*words, stdin=DEVNULL, stdout=PIPE)
        count = size = digits = 0
        async for text in child.stdout:
            count += 1
            size += len(text) - 1
            digits += text[7]
        assert await child.wait() == 0
        return (count, size, digits)

    async def many():
        free = asyncio.Semaphore(WIDTH)

        async def one():
            async with free:
                return await output()

        return await asyncio.gather(*(one() for _ in range(total)))

    task = {"lines": lines, "many": many}.get(family, output)

    asyncio.run(take_turns(family, total, task))


def with_twisted(family, total, words):
    from twisted.internet import defer, protocol, reactor, task, utils

    def output():
        # What a signal ends is a failure here, as it should be.
        said = utils.getProcessOutputAndValue(words[0], words[1:], env=None)
        return said.addCallback(lambda said: (said[2], said[0], said[1]))

    class Lines(protocol.ProcessProtocol):
        def __init__(self):
            self.ended = defer.Deferred()
            self.rest = b""
            self.count = self.size = self.digits = 0

        def outReceived(self, data):
            *whole, self.rest = (self.rest + data).split(b"\n")
            for text in whole:
                self.count += 1
                self.size += len(text)
                self.digits += text[7]

        def processEnded(self, reason):
            assert reason.value.exitCode == 0
            self.ended.callback((self.count, self.size, self.digits))

    def lines():
        seen = Lines()
        reactor.spawnProcess(seen, words[0], words, env=None)
        return seen.ended

    def many():
        free = defer.DeferredSemaphore(WIDTH)
        return defer.gatherResults([free.run(output) for _ in range(total)])

    run = {"lines": lines, "many": many}.get(family, output)

    task.react(lambda _: defer.ensureDeferred(take_turns(family, total, run)))


if __name__ == "__main__":
    kit, family, total, piece, program = sys.argv[1:]
    run = with_asyncio if kit == "asyncio" else with_twisted
    run(family, int(total), command(family, int(total), int(piece), program))
