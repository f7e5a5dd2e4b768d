from __future__ import annotations

import functools
import json
import random
import threading
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from tests.grammar.tables import ENDS, PIECES, SPECIAL, allowed, greedy, masks, matcher, small_table

from arriero.core import Constraint, ConstraintKind
from arriero.engine.capi import packaged_library
from arriero.engine.llama import load
from arriero.errors import EngineError, InvalidRequest
from arriero.grammar.constraint import any_object, choice, json_schema, lark, regex
from arriero.grammar.matcher import Compiler, Matcher, fill_masks
from arriero.grammar.native import Limits
from arriero.grammar.vocabulary import TokenTable

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "ab", "abc"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
CONSTRAINTS = {
    "person": json_schema(PERSON),
    "object": any_object(),
    "number": json_schema({"type": "number", "minimum": -1.5, "maximum": 10}),
    "choice": choice(["yes", "yesterday", "no", "é", 'say "no"\n']),
    "regex": regex(r"(ab|abc)+[^a-y]{1,3}"),
    "lark": lark('start: item ("," item)*\nitem: /[0-9]+/ | "(" start ")"'),
}


def walk(constraint: Constraint, text: str) -> Matcher:
    walker = matcher(constraint)
    for token in greedy(text):
        walker.accept(token)
    return walker


def accepts(walker: Matcher, token: int) -> bool:
    twin = walker.copy()
    try:
        twin.accept(token)
    except EngineError:
        return False
    return True


def wander(constraint: Constraint, seed: int) -> str:
    """A random text that the constraint allows; ends wherever it may."""
    choose, walker, data = random.Random(seed), matcher(constraint), b""
    for _ in range(400):
        token = choose.choice(sorted(allowed(walker)))
        if token in ENDS or walker.is_complete:
            return data.decode()
        walker.accept(token)
        data += PIECES[token]
    return ""


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_the_mask_is_what_is_accepted(name: str) -> None:
    """Where there is a choice, a token is in the mask exactly if the matcher goes on with it."""
    choose, walker = random.Random(1), matcher(CONSTRAINTS[name])
    for _ in range(8):
        mask = allowed(walker)
        if not walker.forced():
            assert mask == {token for token in range(small_table().size) if accepts(walker, token)}
        token = choose.choice(sorted(mask))
        if token in ENDS:
            break
        walker.accept(token)


def test_random_texts_conform() -> None:
    """Whatever is chosen from the masks, the text is JSON that conforms to the schema."""
    for seed in range(40):
        text = wander(CONSTRAINTS["person"], seed)
        assert text, "the schema bounds every text"
        jsonschema.validate(json.loads(text), PERSON)
        assert " " not in text.replace(json.loads(text)["name"], "")


@pytest.mark.parametrize(
    ("constraint", "before", "forced"),
    [
        (choice(["yes"]), "", "yes"),
        (choice(["yes", "no"]), "", ""),
        (choice(["yes", "yesterday"]), "yes", ""),
        (choice(["yes", "yesterday"]), "yest", "erday"),
        (CONSTRAINTS["person"], "", '{"name":"'),
        (CONSTRAINTS["person"], '{"name":"x', ""),
        (CONSTRAINTS["person"], '{"name":"x","age":1', ""),
        (CONSTRAINTS["person"], '{"name":"x","age":120', ',"tags":['),
        (CONSTRAINTS["person"], '{"name":"x","age":1,"tags":["abc","abc"', "]}"),
        (any_object(), "", "{"),
        (regex("a{3}b?"), "", "aaa"),
    ],
)
def test_forced_tokens(constraint: Constraint, before: str, forced: str) -> None:
    """Forced are the tokens that must follow, however the text goes on; none where it might end."""
    walker = walk(constraint, before)
    tokens = walker.forced()
    text = b"".join(PIECES[token] for token in tokens).decode()

    assert forced.startswith(text)
    assert text or not forced or len(allowed(walker)) > 1, "open only where longer pieces compete"
    for token in tokens:
        assert allowed(walker) == {token}
        walker.accept(token)


def test_forced_tokens_are_taken_one_by_one() -> None:
    """What is left of forced tokens stays forced while they are accepted one after the other."""
    walker = matcher(choice(["abcabc"]))
    first, *rest = walker.forced()
    walker.accept(first)

    assert rest
    assert walker.forced() == rest
    assert walker.copy().forced() == rest


def test_forced_text_may_be_spelled_otherwise() -> None:
    """A caller may accept other tokens of the same text than the forced ones."""
    walker = matcher(choice(["yes"]))
    assert walker.forced() == greedy("yes")
    walker.accept(ord("y"))

    assert b"".join(PIECES[token] for token in walker.forced()) == b"es"


@pytest.mark.parametrize(
    ("text", "may_end", "is_complete"),
    [("", False, False), ("ye", False, False), ("yes", True, False), ("yesterday", True, True)],
)
def test_the_end_is_known(text: str, may_end: bool, is_complete: bool) -> None:
    """End tokens are allowed exactly where the text may end, and alone where it must."""
    walker = walk(choice(["yes", "yesterday"]), text)

    assert (walker.may_end, walker.is_complete) == (may_end, is_complete)
    assert (set(ENDS) <= allowed(walker)) == may_end
    assert (set(ENDS) == allowed(walker)) == is_complete


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("text", ["yes", "yesterday"])
def test_any_end_token_ends(end: int, text: str) -> None:
    """Every end token may be accepted where the text may end; then it is complete."""
    walker = walk(choice(["yes", "yesterday"]), text)
    walker.accept(end)

    assert walker.is_complete
    assert walker.forced() == []


@pytest.mark.parametrize("token", [ord("x"), SPECIAL, ENDS[0], len(PIECES) - 1, -1, 10**9])
def test_a_wrong_token_is_an_error(token: int) -> None:
    """A token that the constraint does not allow is an EngineError; the matcher is of no use afterwards."""
    walker = matcher(choice(["yes", "no"]))
    with pytest.raises(EngineError, match="does not match"):
        walker.accept(token)

    assert not walker.is_complete or token in (-1, 10**9)


def test_special_tokens_are_never_text() -> None:
    """The name of a special token in a text is spelled with usual tokens."""
    walker = matcher(choice(["<special>", "<end>"]))

    assert SPECIAL not in allowed(walker)
    assert allowed(walker) == {ord("<")}


def test_a_trusted_grammar_may_hold_special_tokens() -> None:
    """A constraint made by the program itself can ask for a special token, which is forced then."""
    walker = matcher(Constraint(ConstraintKind.LARK, f'start: <[{SPECIAL}]> "abc" <[{SPECIAL}]> /x+/'))

    assert walker.forced()[0] == SPECIAL
    for token in (SPECIAL, *greedy("abc"), SPECIAL, ord("x")):
        walker.accept(token)
    assert walker.may_end


def test_copies_go_their_own_way() -> None:
    """A copy begins where its original stands; neither sees the other's tokens."""
    first = walk(choice(["yes", "yesterday", "yellow"]), "ye")
    second = first.copy()
    first.accept(ord("s"))
    second.accept(ord("l"))

    assert (first.may_end, second.may_end) == (True, False)
    assert b"".join(PIECES[token] for token in second.forced()) == b"low"


def test_masks_of_several_matchers() -> None:
    """Each row is its matcher's mask, however many there are, forced ones among them."""
    names = sorted(CONSTRAINTS) * 2
    alone = [allowed(matcher(CONSTRAINTS[name])) for name in names]

    assert masks([matcher(CONSTRAINTS[name]) for name in names]) == (alone, {})


def test_banned_tokens() -> None:
    """Banned tokens are in no mask and cannot be accepted."""
    walker = matcher(choice(["ab", "ac", "xy"]), [ord("b"), *greedy("ab"), *greedy("x")])

    assert allowed(walker) == {ord("a")}
    with pytest.raises(EngineError):
        walker.copy().accept(ord("x"))
    walker.accept(ord("a"))
    assert allowed(walker) == {ord("c")}


@pytest.mark.parametrize("options", [["abc"], ["ab", "ac"]])
def test_banned_tokens_that_leave_nothing(options: list[str]) -> None:
    """Where the private tokens leave nothing, the row is empty and the error says why; others go on."""
    stuck = matcher(choice(options), range(len(PIECES)))
    found, failures = masks([matcher(choice(["no"])), stuck])

    assert found == [set(greedy("no")), set()]
    assert list(failures) == [1]
    assert "private tokens leave nothing" in failures[1].message


def test_forced_banned_tokens() -> None:
    """A banned token is not forced: that nothing else can follow is an error."""
    walker = matcher(choice(["yes"]), greedy("yes"))
    with pytest.raises(EngineError, match="private tokens leave nothing"):
        walker.forced()


def test_what_the_vocabulary_cannot_spell() -> None:
    """A text that the vocabulary has no tokens for is an error by name, never a mask of end tokens."""
    table = TokenTable([b"a", b"b", b"<end>"], [], [2], lambda text: ["ab".index(char) for char in text])
    compiler = Compiler(table)
    out = np.zeros((1, 1), np.int32)
    walker = compiler.matcher(choice(["ab", "ac"]))
    walker.accept(0)
    assert fill_masks([walker], out) == {}
    assert out.tolist() == [[2]]

    stuck = compiler.matcher(choice(["bc", "a"]))
    stuck.accept(1)
    failures = fill_masks([stuck], out)
    assert "cannot go on" in failures[0].message
    assert out.tolist() == [[0]]
    with pytest.raises(InvalidRequest, match="cannot be used"):
        compiler.matcher(choice(["c"]))


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (Constraint(ConstraintKind.REGEX, "(a"), "the regular expression cannot be used: unclosed group"),
        (
            Constraint(ConstraintKind.LARK, "start: b"),
            'the grammar cannot be used: line 1: unknown name: "b"',
        ),
        (
            Constraint(ConstraintKind.LARK, "start: a\na: a"),
            "the constraint cannot be used: .* no token fits",
        ),
        (Constraint(ConstraintKind.JSON_SCHEMA, "{"), "the JSON Schema cannot be used: "),
        (Constraint(ConstraintKind.JSON_SCHEMA, "5"), "the JSON Schema cannot be used: "),
        (Constraint(ConstraintKind.JSON_SCHEMA, '{"type":"x"}'), "the JSON Schema cannot be used: "),
    ],
)
def test_what_cannot_be_compiled(constraint: Constraint, message: str) -> None:
    """A constraint that cannot be used is an InvalidRequest in one short line."""
    with pytest.raises(InvalidRequest, match=message) as caught:
        matcher(constraint)

    assert len(caught.value.message) < 300
    assert "\n" not in caught.value.message


def test_long_sources_are_not_repeated() -> None:
    """The message about a long source does not hold it."""
    with pytest.raises(InvalidRequest) as caught:
        matcher(Constraint(ConstraintKind.REGEX, "(" * 3000 + "secret"))

    assert len(caught.value.message) < 300


def test_the_cache_is_bounded() -> None:
    """Of many constraints the last few are kept, and no more text than the limit says."""
    few = Compiler(small_table(), Limits(cached=3))
    for index in range(10):
        few.matcher(choice([f"text {index}"]))
    assert len(few._cache) == 3

    short = Compiler(small_table(), Limits(cached_characters=100))
    for index in range(10):
        short.matcher(choice(["x" * 30 + str(index)]))
    assert sum(entry.size for entry in short._cache.values()) <= 100


def test_a_compiled_constraint_is_used_again() -> None:
    """The same constraint is compiled once, until it has served so many tokens."""
    compiler = Compiler(small_table(), Limits(cached_tokens=5))
    constraint = regex("a*")
    first = compiler.matcher(constraint)
    assert compiler.matcher(constraint)._made is first._made

    for _ in range(5):
        first.accept(ord("a"))
    assert compiler.matcher(constraint)._made is not first._made


def test_a_constraint_over_its_budget_is_compiled_anew() -> None:
    """Too many lexer states end one text by name; the next one with this constraint begins afresh."""
    compiler = Compiler(small_table(), Limits(lexer_states=300))
    constraint = regex(".*a.{12}")
    out = np.zeros((1, (small_table().size + 31) // 32), np.int32)
    choose, walker = random.Random(3), compiler.matcher(constraint)
    failures: dict[int, EngineError] = {}
    while not failures:
        walker.accept(choose.choice(b"ab"))
        failures = fill_masks([walker], out)

    assert "too many states" in failures[0].message
    assert fill_masks([compiler.matcher(constraint)], out) == {}


def test_threads_compile_at_the_same_time() -> None:
    """Compiling from several threads gives each a working matcher."""
    compiler = Compiler(small_table())
    found: list[bool] = []

    def work(index: int) -> None:
        for number in range(10):
            made = compiler.matcher(choice([f"a{number}", f"b{index}"]))
            made.accept(ord("a"))
            found.append(b"".join(PIECES[token] for token in made.forced()) == str(number).encode())

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [True] * 40


def test_a_real_vocabulary(smollm2: Path) -> None:
    """With the vocabulary of a real model, forced tokens are those that the model itself would use."""
    model = load(smollm2, library=packaged_library(), gpu_layers=0)
    vocab = model.vocab
    tokenize = functools.partial(vocab.tokenize, special=False)
    tokens = range(vocab.size)
    pieces = [vocab.name(token) if token in vocab.controls else vocab.piece(token) for token in tokens]
    ends = [token for token in tokens if vocab.ends_generation(token)]
    compiler = Compiler(TokenTable(pieces, vocab.controls, ends, tokenize))
    text = '{"name":"Ada Lovelace","age":36,"tags":["abc"]}'
    schema = {**PERSON, "properties": {**PERSON["properties"], "name": {"const": "Ada Lovelace"}}}  # type: ignore[dict-item]
    walker = compiler.matcher(json_schema(schema))
    forced = walker.forced()

    assert forced == tokenize('{"name":"Ada Lovelace","age":')[: len(forced)]
    assert len(forced) > 5
    out = np.zeros((1, (vocab.size + 31) // 32), np.int32)
    for token in tokenize(text):
        assert fill_masks([walker], out) == {}
        assert out.view(np.uint32)[0, token >> 5] >> (token & 31) & 1
        walker.accept(token)
    assert walker.is_complete
    model.close()
