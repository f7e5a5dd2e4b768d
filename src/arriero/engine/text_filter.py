"""Finds stop sequences in a stream of text and takes private tokens out of it, one character at a time.

Working by character makes the result the same for every cut of the stream. What is held back is
what may still become part of a match; its length is bounded, whatever the text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

ROOT = 0

LONGEST_CHAIN = 8
"""Text held back because matches may be nested, in lengths of the longest string."""


class Emission(NamedTuple):
    """Text that may be shown now. `stop_sequence`: the one that was found; the generation is over."""

    text: str = ""
    stop_sequence: str | None = None

    @property
    def stopped(self) -> bool:
        return self.stop_sequence is not None


class VisibleText:
    """What of a generated text may be shown: no stop sequence, nothing after one, no private token.

    Pure and incremental: `feed` every piece, then `flush` once. After a stop there is no text.
    """

    def __init__(self, stop_sequences: Sequence[str], private_tokens: Sequence[str]) -> None:
        stops, privates = set(filter(None, stop_sequences)), set(filter(None, private_tokens))
        self._filters = _filters(sorted(stops), sorted(privates))
        self._stop_sequence: str | None = None

    def feed(self, text: str) -> Emission:
        """Return the text that the piece makes certain."""
        if not self._filters:
            return Emission(text)
        return self._filtered(text, last=False)

    def flush(self) -> Emission:
        """Return what was held back for a match that now cannot come."""
        return self._filtered("", last=True)

    def _filtered(self, text: str, *, last: bool) -> Emission:
        if self._stop_sequence is not None:
            return Emission(stop_sequence=self._stop_sequence)
        for text_filter in self._filters:
            text, found = text_filter.feed(text)
            # A filter sees only what the one before it has passed on, so what it finds comes first.
            self._stop_sequence = found or self._stop_sequence
            if last or self._stop_sequence is not None:
                text += text_filter.flush()
        return Emission(text, self._stop_sequence)


def _filters(stops: Sequence[str], privates: Sequence[str]) -> list[TextFilter]:
    if not stops and not privates:
        return []
    visible = TextFilter(stops, privates)
    # A stop sequence around a private token would never be seen once the token is taken out.
    hidden = any(private in stop[:-1] for stop in stops for private in privates)
    return [TextFilter(stops, ()), visible] if hidden else [visible]


@dataclass(slots=True)
class Node:
    """What is known after some characters: the longest suffix of them that begins a string.

    depth: length of that suffix. stop, private: the longest strings that end here, or empty.
    """

    depth: int
    stop: str = ""
    private: str = ""
    fallback: int = ROOT
    following: dict[str, int] = field(default_factory=dict)


class Automaton:
    """Aho and Corasick's: follows all strings at once, at a constant cost for each character."""

    def __init__(self, stops: Sequence[str], privates: Sequence[str]) -> None:
        self.nodes = [Node(depth=0)]
        for text in stops:
            self.nodes[self._grow(text)].stop = text
        for text in privates:
            self.nodes[self._grow(text)].private = text
        self._link()

    def step(self, state: int, character: str) -> int:
        while character not in self.nodes[state].following and state != ROOT:
            state = self.nodes[state].fallback
        return self.nodes[state].following.get(character, ROOT)

    def _grow(self, text: str) -> int:
        state = ROOT
        for character in text:
            following = self.nodes[state].following
            if character not in following:
                following[character] = len(self.nodes)
                self.nodes.append(Node(depth=self.nodes[state].depth + 1))
            state = following[character]
        return state

    def _link(self) -> None:
        # Breadth first: a node's fallback is shorter than the node, so it is complete already.
        queue = deque(self.nodes[ROOT].following.values())
        while queue:
            node = self.nodes[queue.popleft()]
            for character, child in node.following.items():
                self.nodes[child].fallback = self.step(node.fallback, character)
                queue.append(child)
            node.stop = node.stop or self.nodes[node.fallback].stop
            node.private = node.private or self.nodes[node.fallback].private


class TextFilter:
    """Passes text on until a stop sequence is complete. Owns the text that is held back.

    1. Of several stop sequences the one that is complete first counts; of those that are complete
       at the same character the longest. No character of it is passed on.
    2. A private token vanishes as soon as it is complete, unless a stop sequence is complete there too.
       What stood before and after it is then adjacent and may form the next match. What has been
       passed on never contains a private token.
    """

    def __init__(self, stops: Sequence[str], privates: Sequence[str]) -> None:
        self._automaton = Automaton(stops, privates)
        self._beginnings = re.compile("[" + "".join(re.escape(text[0]) for text in [*stops, *privates]) + "]")
        self._nests = bool(privates)
        self._longest_chain = LONGEST_CHAIN * max(len(text) for text in [*stops, *privates])
        self._held: list[str] = []
        self._states: list[int] = []
        self._chains: list[int] = []
        self._before = ROOT

    def feed(self, text: str) -> tuple[str, str]:
        """Return the text to pass on and the stop sequence that was found, or an empty one."""
        passed: list[str] = []
        position = 0
        while position < len(text):
            if not self._held and self._before == ROOT:
                # Nothing is pending: everything up to the next possible beginning goes through.
                found = self._beginnings.search(text, position)
                start = found.start() if found else len(text)
                passed.append(text[position:start])
                position = start
                if not found:
                    break
            stop = self._take(text[position], passed)
            if stop:
                return "".join(passed), stop
            position += 1
        return "".join(passed), ""

    def flush(self) -> str:
        """Return what was held back: the stream has ended, nothing can complete it."""
        rest = "".join(self._held)
        self._forget(len(self._held))
        return rest

    def _take(self, character: str, passed: list[str]) -> str:
        state = self._automaton.step(self._states[-1] if self._states else self._before, character)
        node = self._automaton.nodes[state]
        self._held.append(character)
        self._states.append(state)
        self._chains.append(self._chain(node.depth))
        if node.stop:
            self._drop(len(node.stop))
            passed.append(self.flush())
        elif node.private:
            self._drop(len(node.private))
        else:
            self._release(node.depth, passed)
        return node.stop

    def _chain(self, depth: int) -> int:
        """Return how many of the held characters must wait for the newest one.

        Those are the ones that begin a string, `depth`, and, since they may vanish as a private
        token, those before them that begin one.
        """
        before = len(self._states) - 1 - depth
        if depth and self._nests and before >= 0:
            return depth + self._chains[before]
        return depth

    def _release(self, depth: int, passed: list[str]) -> None:
        chain = self._chains[-1] if self._chains[-1] <= self._longest_chain else depth
        count = len(self._held) - chain
        if count > 0:
            passed.extend(self._held[:count])
            self._forget(count)

    def _forget(self, count: int) -> None:
        if count:
            self._before = self._states[count - 1]
            del self._held[:count], self._states[:count], self._chains[:count]

    def _drop(self, count: int) -> None:
        # Never more than what is held: the beginning may have been passed on when a chain grew too long.
        keep = max(len(self._held) - count, 0)
        del self._held[keep:], self._states[keep:], self._chains[keep:]
