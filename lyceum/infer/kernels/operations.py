"""The operations a pass is made of: each works on some items (tokens, groups of weight rows, stretches of attention).

An operation reads its settings from a row of the program, 64-bit numbers by name (`Row`), and what changes from pass to
pass from the state (`State`). Sums over a row of numbers never depend on how items are shared among threads.
"""

from collections.abc import Callable
from enum import IntEnum

from llvmlite import ir

from lyceum.infer.kernels.attention import COLUMNS, STRETCH
from lyceum.infer.kernels.code import F32, FLOATS, I64, LANES, Code, Value
from lyceum.infer.kernels.matrix import DOT_COLUMNS, TILE_COLUMNS

QUERY_COLUMNS = 24  # query heads that one item of attention works on, or one token's when it has more
MOST_COLUMNS = 64 + max(COLUMNS)  # room for them, and for what the last kernel writes too much
SCORES_BYTES = MOST_COLUMNS * STRETCH * 4


class State(IntEnum):
    """Words of the state: what a pass is about, and where its arrays are."""

    TICKET = 0  # job, phase and next chunk in one word; alone in its cache line
    DONE = 8  # chunks of the phase that are finished; alone in its cache line
    WAITED = 16  # how often a thread found nothing to do for long
    PROGRAM = 24
    NUM_PHASES = 25
    SCRATCH = 26  # address and bytes of each thread's scratch memory
    SCRATCH_BYTES = 27
    NUM_TOKENS = 28
    TOKENS = 29  # (T,) ids
    POSITIONS = 30  # (T,)
    PAGES = 31  # (T,) offset of each token's page in the pool
    NUM_WANTED = 32
    WANTED = 33  # (N,) which tokens' scores are wanted
    NUM_STRETCHES = 34  # items of attention
    STRETCHES = 35  # (A, 7): see Stretch
    FIRST_PART = 36  # (T,) where each token's attention results begin
    NUM_PARTS = 37  # (T,)
    NUM_GROUPS = 38  # an item for each key head of each stretch
    SIZE = 48


class Stretch(IntEnum):
    """Words of an item of attention: some tokens of one branch, and the stretches of keys they meet."""

    TOKEN = 0  # the first
    NUM_TOKENS = 1
    TABLE = 2  # address of the branch's page offsets
    FIRST = 3  # stretches of 256 keys
    END = 4
    PART = 5  # where the first token's result goes
    STEP = 6  # from a token's result to the next one's


class Row(IntEnum):
    """Words of a program's row that every operation has; what follows is its own."""

    OPERATION = 0
    COUNT = 1  # the word of the state that counts its items, or 0 for FIXED
    FIXED = 2
    GRAIN = 3  # items a chunk
    SERIAL = 4  # with so few items whoever ended the phase before does this one too
    FIRST = 5  # of its own words
    SIZE = 24


class Settings:
    """A program row's own words, by the names an operation gives them."""

    def __init__(self, code: Code, row: Value, names: str) -> None:
        self._values = {
            name: code.load(row, I64, offset=8 * (Row.FIRST + number), align=8)
            for number, name in enumerate(names.split())
        }

    def __getattr__(self, name: str) -> Value:
        return self._values[name]


def word(code: Code, state: Value, name: State) -> Value:
    """A word of the state."""
    return code.load(state, I64, offset=8 * name, align=8)


def entry(code: Code, array: Value, index: Value) -> Value:
    """A 64-bit number of an array."""
    return code.load(array + index * 8, I64, align=8)


EMBED = "x x_step embedding panel_bytes blocks read_row positions_table vectors"
NORM = (
    "x x_step y y_step bias norm weight norm_bias constants vectors out out_step sums sums_step blocks hidden"
    " hidden_step"
)
PICK = "x x_step blocks out out_step sums sums_step"
LINEAR = "columns weights panel_bytes blocks x x_step sums sums_step out out_step dots unpack"
ROTATE = "x x_step bias vectors angles heads key_heads width padded pool value_offset group_bytes element"
ATTEND = (
    "x x_step share key_heads width padded pool value_offset group_bytes element scale stats mixed heads strips strip"
)
MERGE = "stats mixed heads width padded out out_step sums sums_step blocks"
ACTIVATE = "x x_step bias bias_vectors up activation vectors out out_step sums sums_step blocks"
BEST = "x x_step vectors limit stats index"


def embed(code: Code) -> None:
    """x = the token's row of the embedding, plus its position's where there are learned ones."""
    state, row, first, end, _ = code.arguments
    own = Settings(code, row, EMBED)
    tokens, positions = word(code, state, State.TOKENS), word(code, state, State.POSITIONS)
    with code.loop(end, start=first) as item:
        token, x = entry(code, tokens, item), own.x + item * own.x_step
        panel = own.embedding + (token >> 4) * own.panel_bytes
        code.invoke_at(own.read_row, panel, token & 15, own.blocks, x)
        with code.when(code.constant(I64, 0).is_less(own.positions_table)):
            code.invoke("add", x, own.positions_table + entry(code, positions, item) * own.vectors * 64, own.vectors)


def norm(code: Code) -> None:
    """x += y + bias (where given), then its norm as activations and, where wanted, as numbers."""
    state, row, first, end, thread = code.arguments
    own = Settings(code, row, NORM)
    scratch = scratch_of(code, state, thread)
    zero = code.constant(I64, 0)
    with code.loop(end, start=first) as item:
        x = own.x + item * own.x_step
        with code.when(zero.is_less(own.y)):
            code.invoke("add", x, own.y + item * own.y_step, own.vectors)
        with code.when(zero.is_less(own.bias)):
            code.invoke("add", x, own.bias, own.vectors)
        to = code.select(zero.is_less(own.hidden), own.hidden + item * own.hidden_step, scratch)
        code.invoke_at(own.norm, x, own.weight, own.norm_bias, own.constants, own.vectors, to)
        with code.when(zero.is_less(own.out)):
            code.invoke("quantise", to, own.blocks, own.out + item * own.out_step, own.sums + item * own.sums_step)


def pick(code: Code) -> None:
    """The wanted tokens' last hidden states as activations."""
    state, row, first, end, _ = code.arguments
    own = Settings(code, row, PICK)
    wanted = word(code, state, State.WANTED)
    with code.loop(end, start=first) as item:
        x = own.x + entry(code, wanted, item) * own.x_step
        code.invoke("quantise", x, own.blocks, own.out + item * own.out_step, own.sums + item * own.sums_step)


def linear(code: Code) -> None:
    """out = weights times activations, for groups of 32 rows and all columns."""
    state, row, first, end, thread = code.arguments
    own = Settings(code, row, LINEAR)
    columns, scratch = entry(code, state, own.columns), scratch_of(code, state, thread)
    rest = (own.x_step, own.sums, own.sums_step)
    with code.loop(end, start=first) as group:
        panel = own.weights + group * own.panel_bytes * 2
        is_few = columns.is_less(max(DOT_COLUMNS) + 1)
        with code.when(is_few):
            dot = entry(code, own.dots, columns)
            for number in range(2):
                to = own.out + group * 128 + 64 * number
                code.invoke_at(dot, panel + own.panel_bytes * number, own.blocks, own.x, *rest, to, own.out_step)
        with code.when(code.constant(I64, max(DOT_COLUMNS)).is_less(columns)):
            opened = code.load(own.unpack, I64, offset=8, align=8) * own.blocks
            unpack = code.load(own.unpack, I64, align=8)
            code.invoke_at(unpack, panel, own.blocks, scratch)
            code.invoke_at(unpack, panel + own.panel_bytes, own.blocks, scratch + opened)
            tiles = (columns + (TILE_COLUMNS - 1)) / TILE_COLUMNS
            with code.loop(tiles) as place:
                at = place * TILE_COLUMNS
                x, sums = own.x + at * own.x_step, own.sums + at * own.sums_step
                out = own.out + at * own.out_step + group * 128
                code.invoke("tile", scratch, own.blocks, x, own.x_step, sums, own.sums_step, out, own.out_step)


def rotate(code: Code) -> None:
    """Turn queries and keys by their position's angles, and put keys and values into the token's page.

    Source: Su et al. 2021, arXiv:2104.09864, section 3.2, with the halves convention of model/positions.py.
    """
    state, row, first, end, _ = code.arguments
    own = Settings(code, row, ROTATE)
    positions, pages = word(code, state, State.POSITIONS), word(code, state, State.PAGES)
    zero = code.constant(I64, 0)
    with code.loop(end, start=first) as item:
        x, position = own.x + item * own.x_step, entry(code, positions, item)
        with code.when(zero.is_less(own.bias)):
            code.invoke("add", x, own.bias, own.vectors)
        with code.when(zero.is_less(own.angles)):
            turned = own.angles + position * own.width * 4
            is_wide = (own.width & (2 * LANES - 1)).is_equal(0)
            for kind, size, fits in ((FLOATS, LANES, is_wide), (F32, 1, is_wide.is_equal(0))):
                with (
                    code.when(fits),
                    code.loop(own.heads + own.key_heads) as head,
                    code.loop(own.width / (2 * size)) as number,
                ):
                    _turn(
                        code, kind, x + head * own.width * 4 + number * size * 4, turned + number * size * 4, own.width
                    )
        page, slot = own.pool + entry(code, pages, item), position & 15
        keys = x + own.heads * own.width * 4
        values = keys + own.key_heads * own.width * 4
        with code.loop(own.key_heads) as group, code.loop(own.width) as channel:
            at, source = page + group * own.group_bytes, (group * own.width + channel) * 4
            key_at = at + (channel * 16 + slot) * own.element
            value_at = at + own.value_offset + (slot * own.padded + channel) * own.element
            for place, numbers in ((key_at, keys), (value_at, values)):
                number = code.load(numbers + source, F32)
                with code.when(own.element.is_equal(2)):
                    code.store(number.to_half(), place, align=2)
                with code.when(own.element.is_equal(4)):
                    code.store(number, place)


def _turn(code: Code, kind: ir.Type, a_at: Value, cosines: Value, width: Value) -> None:
    """Turn some channels and their partners half a head further."""
    half = width * 2  # bytes
    a, b = code.load(a_at, kind), code.load(a_at + half, kind)
    cosine, sine = code.load(cosines, kind), code.load(cosines + half, kind)
    code.store(a * cosine - b * sine, a_at)
    code.store(a * sine + b * cosine, a_at + half)


def attend(code: Code) -> None:
    """Some tokens' heads over stretches of 256 keys, one key head an item; the result is [largest, sum] and the mix.

    Source: Milakov & Gimelshein 2018, arXiv:1805.02867; Dao et al. 2023, "Flash-Decoding for long-context inference".
    """
    state, row, first, end, thread = code.arguments
    own = Settings(code, row, ATTEND)
    stretches, positions = word(code, state, State.STRETCHES), word(code, state, State.POSITIONS)
    buffers = _Buffers(code, scratch_of(code, state, thread), own.padded * 4)
    with code.loop(end, start=first) as number:
        item = stretches + (number / own.key_heads) * (8 * len(Stretch))
        group = number - (number / own.key_heads) * own.key_heads
        token, num_tokens, table, begin, until, part, step = (
            code.load(item, I64, offset=8 * place, align=8) for place in Stretch
        )
        position, columns = entry(code, positions, token), num_tokens * own.share
        _gather(code, own, buffers, token, num_tokens, group)
        pool = own.pool + group * own.group_bytes
        with code.loop(until, start=begin) as stretch:
            mixed = code.select(stretch.is_equal(begin), buffers.mixed, buffers.more)
            stats = code.select(stretch.is_equal(begin), buffers.stats, buffers.more_stats)
            before = stretch * STRETCH
            seen = code.minimum(position + num_tokens - before, code.constant(I64, STRETCH))
            pages = table + stretch * (STRETCH // 16 * 8)
            _score(code, own, buffers, columns, pages, pool, seen)
            with code.loop(columns) as column:
                limit = position + column / own.share + 1 - before
                code.invoke("softmax", buffers.row(column), (seen + 15) >> 4, limit, stats + column * 8)
            _mix(code, own, buffers, columns, pages, pool, seen, mixed)
            with code.when(begin.is_less(stretch)), code.loop(columns) as column:
                limit = position + column / own.share + 1 - before
                with code.when(code.constant(I64, 0).is_less(limit)):
                    here = column * buffers.head_bytes
                    ours = (buffers.stats + column * 8, buffers.mixed + here)
                    code.invoke("merge", *ours, stats + column * 8, mixed + here, own.padded >> 4)
        _scatter(code, own, buffers, (part, step), num_tokens, group)


class _Buffers:
    """A thread's scratch memory in an operation of attention."""

    def __init__(self, code: Code, scratch: Value, head_bytes: Value) -> None:
        self.scores, self.head_bytes = scratch, head_bytes
        self.q = scratch + SCORES_BYTES
        self.mixed = self.q + head_bytes * MOST_COLUMNS
        self.more = self.mixed + head_bytes * MOST_COLUMNS
        self.stats = self.more + head_bytes * MOST_COLUMNS
        self.more_stats = self.stats + 8 * MOST_COLUMNS

    def row(self, column: Value) -> Value:
        """A column's scores."""
        return self.scores + column * (STRETCH * 4)


def attention_scratch_bytes(padded: int) -> int:
    """What `attend` needs a thread."""
    return SCORES_BYTES + MOST_COLUMNS * (3 * 4 * padded + 16)


def _gather(code: Code, own: Settings, buffers: _Buffers, token: Value, num_tokens: Value, group: Value) -> None:
    """The item's queries, one column after the other, times the scale."""
    scale = code.load(own.scale, F32)
    with code.loop(num_tokens) as number, code.loop(own.share) as head:
        source = own.x + (token + number) * own.x_step + (group * own.share + head) * own.width * 4
        target = buffers.q + (number * own.share + head) * buffers.head_bytes
        with code.loop(own.width) as channel:
            code.store(code.load(source + channel * 4, F32) * scale, target + channel * 4)


def _score(
    code: Code, own: Settings, buffers: _Buffers, columns: Value, pages: Value, pool: Value, seen: Value
) -> None:
    def arguments(column: Value) -> list[Value | int]:
        q = buffers.q + column * buffers.head_bytes
        pairs = (seen + 31) >> 5
        return [q, buffers.head_bytes, pages, pool, own.width, pairs, buffers.row(column), STRETCH * 4]

    _by_width(code, "keys", columns, arguments)


def _mix(
    code: Code,
    own: Settings,
    buffers: _Buffers,
    columns: Value,
    pages: Value,
    pool: Value,
    seen: Value,
    mixed: Value,
) -> None:
    with code.loop(own.strips) as strip:
        channel = strip * own.strip
        values = pool + own.value_offset + channel * own.element
        row_bytes = own.padded * own.element

        def arguments(column: Value) -> list[Value | int]:
            to = mixed + column * buffers.head_bytes + channel * 4
            return [buffers.row(column), STRETCH * 4, pages, values, row_bytes, seen, to, buffers.head_bytes]

        _by_width(code, "values", columns, arguments)


def _by_width(code: Code, name: str, columns: Value, arguments: Callable[[Value], list[Value | int]]) -> None:
    """Call the kernel of the widest form again and again, then the narrowest that holds the rest."""
    most = max(COLUMNS)
    with code.loop((columns + (most - 1)) / most) as number:
        left = columns - number * most
        narrower = 0
        for width in COLUMNS:
            fits = code.constant(I64, narrower).is_less(left)
            if width < most:
                fits = fits & left.is_less(width + 1)
            with code.when(fits):
                code.invoke(f"{name}_{width}", *arguments(number * most))
            narrower = width


def _scatter(
    code: Code, own: Settings, buffers: _Buffers, place: tuple[Value, Value], num_tokens: Value, group: Value
) -> None:
    """The item's results to their places: parts x heads."""
    with code.loop(num_tokens) as number, code.loop(own.share) as head:
        column = number * own.share + head
        first, step = place
        to = (first + number * step) * own.heads + group * own.share + head
        code.store(code.load(buffers.stats + column * 8, I64), own.stats + to * 8)
        with code.loop(own.padded >> 4) as vector:
            at = vector * 64
            mixed = code.load(buffers.mixed + column * buffers.head_bytes + at, FLOATS)
            code.store(mixed, own.mixed + to * buffers.head_bytes + at)


def merge(code: Code) -> None:
    """A token's parts of attention joined, in the order of its keys, as activations."""
    state, row, first, end, thread = code.arguments
    own = Settings(code, row, MERGE)
    firsts, counts = word(code, state, State.FIRST_PART), word(code, state, State.NUM_PARTS)
    scratch, vectors = scratch_of(code, state, thread), own.padded >> 4
    with code.loop(end, start=first) as item:
        part = entry(code, firsts, item)
        with code.loop(own.heads) as head:
            place = part * own.heads + head
            stats, mixed = own.stats + place * 8, own.mixed + place * own.padded * 4
            with code.loop(entry(code, counts, item), start=code.constant(I64, 1)) as more:
                further = more * own.heads
                there = (stats + further * 8, mixed + further * own.padded * 4)
                code.invoke("merge", stats, mixed, *there, vectors)
            code.invoke("divide", stats, mixed, vectors, scratch + head * own.width * 4)
        code.invoke("quantise", scratch, own.blocks, own.out + item * own.out_step, own.sums + item * own.sums_step)


def activate(code: Code) -> None:
    """The feed-forward's inner numbers as activations."""
    state, row, first, end, thread = code.arguments
    own = Settings(code, row, ACTIVATE)
    scratch = scratch_of(code, state, thread)
    with code.loop(end, start=first) as item:
        x = own.x + item * own.x_step
        with code.when(code.constant(I64, 0).is_less(own.bias)):
            code.invoke("add", x, own.bias, own.bias_vectors)
        code.invoke_at(own.activation, x, x + own.up, own.vectors, scratch)
        code.invoke("quantise", scratch, own.blocks, own.out + item * own.out_step, own.sums + item * own.sums_step)


def best(code: Code) -> None:
    """Each wanted row's best token and the sum of its exponentials."""
    _, row, first, end, _ = code.arguments
    own = Settings(code, row, BEST)
    with code.loop(end, start=first) as item:
        x = own.x + item * own.x_step
        code.invoke("best", x, own.vectors, own.limit, own.stats + item * 8, own.index + item * 8)


def scratch_of(code: Code, state: Value, thread: Value) -> Value:
    """The thread's own memory."""
    return word(code, state, State.SCRATCH) + thread * word(code, state, State.SCRATCH_BYTES)


OPERATIONS = (embed, norm, pick, linear, rotate, attend, merge, activate, best)
SETTINGS = dict(zip(OPERATIONS, (EMBED, NORM, PICK, LINEAR, ROTATE, ATTEND, MERGE, ACTIVATE, BEST), strict=True))
