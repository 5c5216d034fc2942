"""The code of a network's training: its updates, its validation and when it stops, epoch after epoch."""

from collections.abc import Generator
from contextlib import contextmanager

from gradfit._lazy import ir, llvm
from gradfit.native import network_step
from gradfit.native.code import Code
from gradfit.native.network_chunk import foreign, write_chunk
from gradfit.native.network_tiles import Shape
from gradfit.native.values import Lanes

NAME = "train"
GROUPS = 4  # sums of slopes that are added in this order: the same bits on up to as many threads
LINE = 8  # numbers of 64 bits in a cache line, so that no two threads write into one
ADDRESSES = (
    "table", "settings", "parameters", "gradient", "own", "scalars", "rows", "order", "packed", "checked", "work", "taken",
    "rates", "losses", "checks", "lost", "best", "before", "noted", "sync", "rest", "lose", "step", "marks", "reals",
)  # fmt: skip
NUMBERS = (
    "layers", "inputs", "targets", "terms", "count", "batch", "chunk", "stride", "span", "padded", "epochs", "done",
    "threads", "room", "checked_count", "checked_chunk", "patience",
)  # fmt: skip
PLAN = (*ADDRESSES, *NUMBERS)
#: the loss's setting; the largest norm of a gradient, or 0; the lowest loss so far; the one to undercut, and by how much
REALS = ("delta", "clip", "best", "mark", "min_delta")
#: epochs done, to the best, to the mark; stop is 1 when patience is over, 2 when the loss is not finite
MARKS = ("updates", "stop", "best", "mark", "epochs")
_SPINS = 2000  # turns of a waiting thread before it lets others have its core


def write_epochs(module: "ir.Module", shape: Shape) -> None:
    """Add `train(plan, thread)` to a module, which goes through the epochs of a plan and returns how many it did.

    The plan is an array of 64-bit integers in the order of PLAN. `rows` holds the data row by row, in the `order` of the
    mini-batches; without them `packed` holds it in chunks, feature by feature, as `checked` does the validation's. `losses`
    and `checks` get the loss of each epoch, `before` and `noted` the parameters and the gradient at the first update of the
    last one. All of a plan's threads call it at once.
    """
    _Epochs(module, shape).write()


class _Epochs:
    def __init__(self, module: "ir.Module", shape: Shape) -> None:
        self.shape = shape
        self._chunk = write_chunk(module, shape)
        self._pack = _write_pack(module, shape)
        self._meet = _write_meet(module)
        self.code = code = Code(module, NAME, pointers=("plan",), numbers=("thread",), real=shape.real)
        whole = {name: code.load_whole("plan", k) for k, name in enumerate(PLAN)}
        self.n = {name: whole[name] for name in NUMBERS}
        self.address = {name: whole[name] for name in ("rest", "lose", "step")}
        self.at = {
            name: code.at.inttoptr(whole[name], ir.PointerType())
            for name in ADDRESSES
            if name not in self.address
        }
        self.thread = code.number("thread")
        self.columns = code.plus(self.n["inputs"], self.n["targets"], 1)
        self.work = self._part("work")
        self.taken = self._part("taken")
        with code.in_double():
            self.delta, self.clip = (
                code.load(self.at["reals"], REALS.index(n)).raw for n in ("delta", "clip")
            )

    def _part(self, name: str) -> "ir.Value":
        """Return this thread's own part of an array."""
        return self.code.element(self.at[name], self.code.at.mul(self.thread, self.n["room"]))

    # ------------------------------------------------------------------ threads

    def _together(self) -> None:
        self.code.call(self._meet, [self.at["sync"], self.n["threads"], self.address["rest"]])

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Let the first thread do what follows while the others wait."""
        self._together()
        with self.code.when(self.code.at.icmp_signed("==", self.thread, self.code.whole_number(0))):
            yield
        self._together()

    @contextmanager
    def _every(self, start: "ir.Value", stop: "ir.Value", step: "ir.Value | int") -> Generator["ir.Value"]:
        code = self.code
        index = code.cell(code.whole_number(start))
        with code.forever() as leave:
            i = index.integer()
            leave.when(code.at.icmp_signed(">=", i, stop))
            index.put(code.plus(i, step))
            yield i

    # ------------------------------------------------------------------ control

    def write(self) -> None:
        """Write the function."""
        code, n = self.code, self.n
        epoch = code.cell(code.whole_number(0))
        with code.forever() as leave:
            e = epoch.integer()
            leave.when(code.at.icmp_signed(">=", e, n["epochs"]))
            epoch.put(code.plus(e, 1))
            with self._alone():
                self._copy("before")
                with code.in_double():
                    code.store(self.at["losses"], e, code.constant(0.0))
            begun = code.at.mul(e, n["count"])
            with self._every(code.whole_number(0), n["count"], n["batch"]) as low:
                self._update(e, begun, low)
            self._validate(e)
            with self._alone():
                self._judge(e)
            leave.when(code.at.icmp_signed("!=", self._mark("stop"), code.whole_number(0)))
        code.finish(epoch.integer())

    def _mark(self, name: str) -> "ir.Value":
        return self.code.load_whole(self.at["marks"], MARKS.index(name))

    def _set_mark(self, name: str, value: "ir.Value | int") -> None:
        self.code.store_whole(self.at["marks"], MARKS.index(name), value)

    def _copy(self, target: str, source: str = "parameters") -> None:
        code, lanes = self.code, self.shape.lanes
        with code.loop(0, self.n["padded"], step=lanes) as i:
            code.store(self.at[target], i, code.load(self.at[source], i, lanes=lanes))

    def _real(self, whole: "ir.Value") -> Lanes:
        """Return an integer as a number of 64 bits."""
        with self.code.in_double():
            return Lanes(self.code, self.code.at.sitofp(whole, ir.DoubleType()))

    def _least(self, a: "ir.Value", b: "ir.Value | int") -> "ir.Value":
        b = self.code.whole_number(b)
        return self.code.at.select(self.code.at.icmp_signed("<", a, b), a, b)

    def _parts(self, count: "ir.Value", size: "ir.Value | int") -> "ir.Value":
        """Return into how many parts of a size a count falls, the last one perhaps smaller."""
        size = self.code.whole_number(size)
        return self.code.at.sdiv(
            self.code.at.sub(self.code.plus(count, size), self.code.whole_number(1)), size
        )

    # ------------------------------------------------------------------ updates

    def _update(self, epoch: "ir.Value", begun: "ir.Value", low: "ir.Value") -> None:
        code, n = self.code, self.n
        count = self._least(code.at.sub(n["count"], low), n["batch"])
        chunks = self._parts(count, n["chunk"])
        with code.in_double():
            share = (1.0 / self._real(code.at.mul(count, n["terms"]))).raw
        first = code.plus(begun, low)
        with self._every(self.thread, self._least(chunks, GROUPS), n["threads"]) as group:
            slopes, lost = self._emptied(group), self._lost(group)
            with self._every(group, chunks, GROUPS) as c:
                rows = self._least(code.at.sub(count, code.product(c, n["chunk"])), n["chunk"])
                given = self._given(c, code.plus(first, code.product(c, n["chunk"])), rows)
                self._through(given, rows, (slopes, lost), share=share, learn=1)
        with self._alone():
            self._add_groups(chunks)
            with code.when(code.at.icmp_signed("==", low, code.whole_number(0))):
                self._copy("noted", "gradient")
            self._clip()
            self._step(epoch)
            with code.in_double():
                part = self._real(count) / self._real(n["count"])
                known = code.load(self.at["losses"], epoch)
                code.store(self.at["losses"], epoch, known + part * self._total_lost(chunks))

    def _given(self, c: "ir.Value", first: "ir.Value", rows: "ir.Value") -> "ir.Value":
        """Return the address of a chunk: of one that is ready, or of this thread's own, with rows of the order."""
        code, n = self.code, self.n
        chosen = code.cell(self.taken)
        with code.at.if_else(code.at.icmp_signed("==", n["batch"], n["count"])) as (ready, loose):
            with ready:
                chosen.put(self._chunk_of("packed", c))
            with loose:
                arrays = [self.at["rows"], self.at["order"], self.taken]
                code.call(self._pack, [*arrays, self.columns, n["stride"], first, rows])
        return chosen.integer()

    def _emptied(self, group: "ir.Value") -> "ir.Value":
        """Return the address of a group's slopes, set to zero."""
        code, lanes = self.code, self.shape.lanes
        slopes = code.element(self.at["gradient"], code.product(group, self.n["span"]))
        with code.loop(0, self.n["padded"], step=lanes) as i:
            code.store(slopes, i, code.constant(0.0, lanes))
        return slopes

    def _chunk_of(self, array: str, c: "ir.Value") -> "ir.Value":
        size = self.code.at.mul(self.columns, self.n["stride"])
        return self.code.element(self.at[array], self.code.at.mul(c, size))

    def _through(
        self,
        given: "ir.Value",
        rows: "ir.Value",
        sums: "tuple[ir.Value, ir.Value]",
        *,
        share: "ir.Value",
        learn: int,
    ) -> None:
        """Send a chunk of rows through the network, and back to learn."""
        code, n = self.code, self.n
        pointers = [
            self.at["parameters"],
            given,
            self.work,
            *sums,
            self.at["table"],
            self.at["settings"],
        ]
        vectors = self._parts(rows, self.shape.lanes)
        numbers = [n["layers"], n["inputs"], n["targets"], n["stride"], vectors, learn, self.address["lose"]]
        code.call(self._chunk, [*pointers, *numbers, self.delta, share])

    def _lost(self, group: "ir.Value") -> "ir.Value":
        """Return the address of a group's loss, set to zero."""
        code = self.code
        with code.in_double():
            place = code.element(self.at["lost"], code.product(group, LINE))
            code.store(place, 0, code.constant(0.0))
        return place

    def _total_lost(self, chunks: "ir.Value") -> Lanes:
        code = self.code
        with code.in_double():
            total = code.cell(code.constant(0.0))
            with code.loop(0, self._least(chunks, GROUPS)) as group:
                total.set(total.get() + code.load(self.at["lost"], code.product(group, LINE)))
            return total.get()

    def _add_groups(self, chunks: "ir.Value") -> None:
        code, lanes = self.code, self.shape.lanes
        with code.loop(1, self._least(chunks, GROUPS)) as group:
            part = code.element(self.at["gradient"], code.product(group, self.n["span"]))
            with code.loop(0, self.n["padded"], step=lanes) as i:
                total = code.load(self.at["gradient"], i, lanes=lanes) + code.load(part, i, lanes=lanes)
                code.store(self.at["gradient"], i, total)

    def _clip(self) -> None:
        """Shorten a gradient that is too long, as torch.nn.utils.clip_grad_norm_ does."""
        code, lanes = self.code, self.shape.lanes
        with code.in_double():
            clip = Lanes(code, self.clip)
        with code.when(clip > 0.0):
            with code.in_double():
                square = code.cell(code.constant(0.0, lanes))
            with code.loop(0, self.n["padded"], step=lanes) as i:
                slope = code.load(self.at["gradient"], i, lanes=lanes)
                slope = code.widened(slope) if self.shape.real == 32 else slope
                square.set(square.get() + slope * slope)
            with code.in_double():
                factor = clip / (code.intrinsic("sqrt", code.total(square.get())) + 1e-6)
                factor = (factor > 1.0).pick(1.0, factor)
            factor = code.narrowed(factor) if self.shape.real == 32 else factor
            with code.loop(0, self.n["padded"], step=lanes) as i:
                slope = code.load(self.at["gradient"], i, lanes=lanes)
                code.store(self.at["gradient"], i, slope * code.spread(factor, lanes))

    def _step(self, epoch: "ir.Value") -> None:
        code, n = self.code, self.n
        kind = foreign(network_step.POINTERS, network_step.NUMBERS, network_step.REALS)
        function = code.at.inttoptr(self.address["step"], kind.as_pointer())
        with code.in_double():
            rate = code.load(self.at["rates"], epoch).raw
        updates = self._mark("updates")
        pointers = [self.at[name] for name in ("parameters", "gradient", "own", "scalars")]
        code.at.call(function, [*pointers, n["padded"], n["span"], updates, rate])
        self._set_mark("updates", code.plus(updates, 1))

    # ------------------------------------------------------------------ the end of an epoch

    def _validate(self, epoch: "ir.Value") -> None:
        code, n = self.code, self.n
        some = code.at.icmp_signed(">", n["checked_count"], code.whole_number(0))
        with code.when(some):
            with code.in_double():
                share = (1.0 / self._real(code.at.mul(n["checked_count"], n["terms"]))).raw
            chunks = self._parts(n["checked_count"], n["checked_chunk"])
            with self._every(self.thread, self._least(chunks, GROUPS), n["threads"]) as group:
                lost = self._lost(group)
                with self._every(group, chunks, GROUPS) as c:
                    begun = code.at.mul(c, n["checked_chunk"])
                    rows = self._least(code.at.sub(n["checked_count"], begun), n["checked_chunk"])
                    given = self._chunk_of("checked", c)
                    self._through(given, rows, (self.at["gradient"], lost), share=share, learn=0)
            with self._alone(), code.in_double():
                code.store(self.at["checks"], epoch, self._total_lost(chunks))

    def _judge(self, epoch: "ir.Value") -> None:
        """Keep the parameters of the lowest loss, of validation if there is one, and stop where it is time to."""
        code, n = self.code, self.n
        some = code.at.icmp_signed(">", n["checked_count"], code.whole_number(0))
        with code.in_double():
            losses = code.load(self.at["losses"], epoch)
            broken = ~((losses - losses) >= 0.0)
            checks = code.load(self.at["checks"], epoch)
            loss = Lanes(code, code.at.select(some, checks.raw, losses.raw))
            finite = (loss - loss) >= 0.0  # a loss that is no number is never progress
            best, mark, least = (
                code.load(self.at["reals"], REALS.index(r)) for r in ("best", "mark", "min_delta")
            )
            better, progress = finite & (loss < best), finite & (loss < mark - least)
        now = code.plus(n["done"], epoch, 1)
        self._set_mark("epochs", now)
        with code.when(better & ~broken):
            self._told("best", loss, now)
            self._copy("best")
        with code.when(progress & ~broken):
            self._told("mark", loss, now)
        waited = code.at.sub(now, self._mark("mark"))
        limited = code.at.icmp_signed(">", n["patience"], code.whole_number(0))
        with code.when(code.at.and_(limited, code.at.icmp_signed(">=", waited, n["patience"]))):
            self._set_mark("stop", 1)
        with code.when(broken):
            self._set_mark("stop", 2)

    def _told(self, name: str, loss: Lanes, now: "ir.Value") -> None:
        with self.code.in_double():
            self.code.store(self.at["reals"], REALS.index(name), loss)
        self._set_mark(name, now)


def _write_pack(module: "ir.Module", shape: Shape) -> "ir.Function":
    """Add `pack(rows, order, out, columns, stride, first, count)`: rows in an order, feature by feature, zeros behind them."""
    code = Code(
        module,
        "pack",
        pointers=("rows", "order", "out"),
        numbers=("columns", "stride", "first", "count"),
        real=shape.real,
        inner=True,
    )
    columns, stride, count = (code.number(name) for name in ("columns", "stride", "count"))
    with code.loop(0, count) as r:
        row = code.at.mul(code.load_whole("order", code.plus(code.number("first"), r)), columns)
        with code.loop(0, columns) as c:
            code.store("out", code.plus(code.at.mul(c, stride), r), code.load("rows", code.plus(row, c)))
    past = code.plus(count, shape.lanes - 1)
    past = code.at.sub(past, code.at.srem(past, code.whole_number(shape.lanes)))
    with code.loop(0, columns) as c, code.loop(count, past) as r:
        code.store("out", code.plus(code.at.mul(c, stride), r), code.constant(0.0))
    code.finish()
    return code.function


def _write_meet(module: "ir.Module") -> "ir.Function":
    """Add `meet(sync, threads, rest)`: all threads wait here for the last one; `rest` lets others have the core."""
    code = Code(module, "meet", pointers=("sync",), numbers=("threads", "rest"), inner=True)
    number = ir.IntType(64)
    arrived, turns = (
        code.at.gep(code.array("sync"), [code.whole_number(k)], source_etype=number) for k in (0, LINE)
    )
    with code.when(code.at.icmp_signed("<=", code.number("threads"), code.whole_number(1))):
        code.give_back(0)
    turn = code.at.load_atomic(turns, "acquire", 8, typ=number)
    before = code.at.atomic_rmw("add", arrived, code.whole_number(1), "acq_rel")
    last = code.at.icmp_signed("==", code.plus(before, 1), code.number("threads"))
    with code.at.if_else(last) as (mine, others):
        with mine:
            code.at.atomic_rmw("xchg", arrived, code.whole_number(0), "acq_rel")
            code.at.atomic_rmw("add", turns, code.whole_number(1), "acq_rel")
        with others:
            _wait(code, turns, turn)
    code.finish()
    return code.function


def _wait(code: Code, turns: "ir.Value", turn: "ir.Value") -> None:
    spins = code.cell(code.whole_number(0))
    rests = code.at.icmp_signed("!=", code.number("rest"), code.whole_number(0))
    relax = code.at.inttoptr(code.number("rest"), ir.FunctionType(ir.IntType(32), []).as_pointer())
    with code.forever() as leave:
        now = code.at.load_atomic(turns, "acquire", 8, typ=ir.IntType(64))
        leave.when(code.at.icmp_signed("!=", now, turn))
        spins.put(code.plus(spins.integer(), 1))
        if llvm.get_process_triple().startswith("x86_64"):
            pause = ir.Function(code.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause")
            code.at.call(pause, [])
        long = code.at.icmp_signed(">", spins.integer(), code.whole_number(_SPINS))
        with code.when(code.at.and_(long, rests)):
            code.at.call(relax, [])
