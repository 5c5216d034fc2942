"""How numbers are written for people: two digits of uncertainty, true minus, narrow spaces."""

from math import ceil, floor, inf, isfinite, log10

MINUS, THIN = "\u2212", "\u202f"
MOST_DECIMALS = 9  # of a value: where the error is smaller still it is written as a power of ten
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def fixed(value: float, decimals: int, *, plus: bool = False) -> str:
    """Return `value` with that many decimals, a true minus and narrow spaces between thousands.

    >>> fixed(-17.3048, 1)
    '−17.3'
    """
    decimals = max(decimals, 0)
    if not isfinite(value):
        return "not finite"
    text = f"{abs(value):,.{decimals}f}".replace(",", THIN)
    if float(f"{value:.{decimals}f}") < 0:
        return MINUS + text
    return ("+" + text) if plus and value > 0 else text


def places(error: float, digits: int = 2) -> int:
    """Return the decimals that show `error` with `digits` significant digits (0.0996 rounds to 0.10: two).

    >>> places(0.0355), places(0.0996), places(1234.0)
    (3, 2, -2)
    """
    if not (error > 0 and isfinite(error)):
        return 3
    error = max(error, 1e-300)  # a power of ten that a float still holds
    exponent = floor(log10(error))
    if round(error / 10.0 ** (exponent - digits + 1)) >= 10**digits:
        exponent += 1
    return digits - 1 - exponent


def power_of_ten(exponent: int) -> str:
    r"""Return × 10ⁿ with superscripts.

    >>> power_of_ten(-6)
    '\u202f×\u202f10⁻⁶'
    """
    return f"{THIN}×{THIN}10{str(exponent).translate(_SUPERSCRIPT)}"


def common_exponent(value: float, error: float) -> int:
    """Return the power of ten to take out of value ± error, 0 when plain decimals read better."""
    biggest = max(abs(value), error if isfinite(error) else 0.0)
    if biggest == 0 or not isfinite(biggest):
        return 0
    exponent = floor(log10(biggest))
    shown = places(error) if error > 0 and isfinite(error) else 3 - exponent
    return exponent if exponent >= 6 or exponent < -3 or (shown > 7 and exponent < -1) else 0


def plus_minus(value: float, error: float) -> tuple[str, str, str]:
    r"""Return (value, error, power) as text: the error has two significant digits and rules the value.

    >>> plus_minus(0.53677, 0.03554)
    ('0.537', '0.036', '')
    >>> plus_minus(5.3713e-6, 3.6e-7)
    ('5.37', '0.36', '\u202f×\u202f10⁻⁶')
    >>> plus_minus(2.0, 1.1e-16)
    ('2.000000000', '1.1\u202f×\u202f10⁻¹⁶', '')
    """
    exponent = common_exponent(value, error)
    scale = 10.0**exponent
    value, error = value / scale, error / scale
    decimals = places(error) if error > 0 and isfinite(error) else 6
    if decimals < 0:
        value, error, decimals = round(value, decimals), round(error, decimals), 0
    spread = fixed(error, decimals) if decimals <= MOST_DECIMALS else significant(error)
    return fixed(value, min(decimals, MOST_DECIMALS)), spread, power_of_ten(exponent) if exponent else ""


def significant(value: float, digits: int = 2) -> str:
    r"""Return `value` with that many significant digits, as a power of ten when it is far from 1.

    >>> significant(0.00034), significant(5883.2, 4), significant(3.4e-9)
    ('0.00034', '5\u202f883', '3.4\u202f×\u202f10⁻⁹')
    """
    if value == 0:
        return "0"
    if not isfinite(value):
        return "not finite"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # of the rounded number
    if exponent < -4 or exponent > 5:
        mantissa = f"{value:.{digits - 1}e}".partition("e")[0]
        return fixed(float(mantissa), digits - 1) + power_of_ten(exponent)
    return fixed(round(value, digits - 1 - exponent), max(digits - 1 - exponent, 0))


def p_value(p: float) -> str:
    """Return a p-value: two digits from 0.10, three decimals below, '< 0.001' under that.

    >>> p_value(0.61), p_value(0.0502), p_value(3e-5)
    ('0.61', '0.050', '< 0.001')
    """
    if p < 1e-3:
        return "< 0.001"
    return fixed(p, 3) if p < 0.1 else fixed(p, 2)


def duration(seconds: float) -> str:
    r"""Return a time span: 4 ms, 1.3 s, 2 min 10 s.

    >>> duration(0.0042), duration(1.31), duration(130)
    ('4\u202fms', '1.3\u202fs', '2\u202fmin 10\u202fs')
    """
    if seconds < 1:
        return f"{max(round(seconds * 1e3), 1)}{THIN}ms"
    if seconds < 60:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}{THIN}min {rest}{THIN}s"


def count(number: int, noun: str) -> str:
    r"""Return a whole number with its noun, in the plural when it is not one.

    >>> count(1, "row"), count(1204, "row")
    ('1 row', '1\u202f204 rows')
    """
    return f"{fixed(number, 0)} {noun}" + ("" if number == 1 else "s")


def listing(names: list[str] | tuple[str, ...], last: str = "and", most: int = 8) -> str:
    """Return names in a sentence: a, b and c; a long list is cut and says by how many.

    >>> listing(["a", "b", "c"])
    'a, b and c'
    """
    names = list(names)
    if len(names) > most:
        return ", ".join(names[:most]) + f" and {len(names) - most} more"
    return (
        names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" {last} " + names[-1] if names else "none"
    )


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return axis ticks at 1, 2, 2.5 or 5 × 10ⁿ inside [low, high].

    >>> ticks(-12.9, 32.9)
    [-10.0, 0.0, 10.0, 20.0, 30.0]
    """
    raw = (high - low) / max(most, 1)
    if not (raw > 0 and isfinite(raw)):
        return [low]
    magnitude = 10.0 ** floor(log10(raw))
    step = min((m * magnitude for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - raw))
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def tick_text(tick: float, every: list[float]) -> str:
    """Return a tick's label with as many decimals as the finest of `every` needs.

    >>> tick_text(2.5, [0.0, 2.5, 5.0])
    '2.5'
    """
    top = max((abs(t) for t in every), default=0.0)
    exponent = floor(log10(top)) if top > 0 else 0
    if exponent >= 6 or exponent < -3:
        scaled = tick / 10.0**exponent
        decimals = next(
            d
            for d in range(8)
            if all(abs(t / 10.0**exponent - round(t / 10.0**exponent, d)) < 1e-7 for t in every) or d == 7
        )
        return "0" if tick == 0 else fixed(scaled, decimals) + power_of_ten(exponent)
    decimals = next(
        d for d in range(10) if all(abs(t - round(t, d)) < 1e-9 * max(top, 1e-9) for t in every) or d == 9
    )
    return fixed(tick, decimals)


_NUMBERS = (
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)


def spelled(number: int) -> str:
    r"""Return a whole number as a word up to twelve, as digits above.

    >>> spelled(11), spelled(1204)
    ('eleven', '1\u202f204')
    """
    return _NUMBERS[number] if 0 <= number < len(_NUMBERS) else fixed(number, 0)


def with_unit(text: str, unit: str) -> str:
    r"""Return a number's text with its unit after a narrow space, or alone when the unit is not known.

    >>> with_unit("4.5", "°C")
    '4.5\u202f°C'
    """
    return f"{text}{THIN}{unit}" if unit else text


def percent(share: float) -> str:
    r"""Return a share of one as per cent with two significant digits.

    >>> percent(0.0662), percent(0.9)
    ('6.6\u202f%', '90\u202f%')
    """
    return f"{significant(100 * share)}{THIN}%"


def level_percent(level: float) -> str:
    r"""Return the level of an interval as per cent, in full.

    >>> level_percent(0.95), level_percent(0.6827)
    ('95\u202f%', '68.27\u202f%')
    """
    return f"{100 * level:.10g}{THIN}%"


def times_in(level: float) -> str:
    r"""Return how often something of this probability happens.

    >>> times_in(0.95), times_in(0.999)
    ('95 times in 100', '999 times in 1\u202f000')
    """
    base = next((b for b in (100, 1000, 10000) if abs(level * b - round(level * b)) < 1e-9), 0)
    if not base:
        return f"{significant(100 * level, 4)} times in 100"
    return f"{fixed(round(level * base), 0)} times in {fixed(base, 0)}"


def reach(low: float, high: float) -> str:
    r"""Return a range of values, each end to about a hundredth of the range.

    >>> reach(21.8, 81.9), reach(1, 10), reach(2e-9, 9.5e-9)
    ('22 to 82', '1 to 10', '(2.0 to 9.5)\u202f×\u202f10⁻⁹')
    """
    if not 1e-300 < high / 2 - low / 2 < inf:
        return significant(low, 4)
    top = max(abs(low), abs(high))
    narrow = 1e4 * (high - low) < top < 1e15  # 1.000000022 × 10⁹ is harder to read than 1 000 000 022
    exponent = 0 if narrow or 1e-3 <= top < 1e9 else common_exponent(top, high - low)
    scale = 10.0**exponent
    decimals = -floor(log10(0.02 * (high / scale - low / scale)))
    shown = [round(end / scale, decimals) for end in (low, high)]
    while decimals > 0 and all(end == round(end, decimals - 1) for end in shown):
        decimals -= 1
    ends = " to ".join("0" if end == 0 else fixed(end, decimals) for end in shown)
    return f"({ends}){power_of_ten(exponent)}" if exponent else ends


def near_one(value: float, decimals: int) -> str:
    r"""Return a share or a correlation; next to one with two digits of what is missing, at most six decimals.

    >>> near_one(-0.961, 2), near_one(0.99998162, 3), near_one(1 - 1e-12, 3), near_one(1.0, 3)
    ('−0.96', '0.999982', '0.999999', '1.000')
    """
    missing = 1 - abs(value)
    if 0 < missing < 0.5 * 10.0**-decimals:
        decimals = min(max(places(missing), decimals), 6)
        value = min(abs(value), 1 - 10.0**-6) * (1 if value > 0 else -1)
    return fixed(value, decimals)


def dated(text: str, name: str) -> str:
    r"""Return numbers of a column without marks between thousands when they are years.

    >>> dated("1\u202f990", "year"), dated("1\u202f990", "dose")
    ('1990', '1\u202f990')
    """
    return text.replace(THIN, "") if name.lower() in ("year", "years") and "×" not in text else text


def exact(value: float) -> str:
    r"""Return a number that somebody gave: in full where it is short, with six digits else.

    >>> exact(3.0), exact(0.25), exact(-1e-8)
    ('3', '0.25', '−1\u202f×\u202f10⁻⁸')
    """
    if common_exponent(value, 0.0):
        mantissa, times, power = significant(value, 6).partition(f"{THIN}×")
        return (mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa) + times + power
    return fixed(value, next((d for d in range(7) if round(value, d) == value), 6))


def interval_text(low: float, high: float, value: float, error: float) -> str:
    """Return an interval with the decimals, and the power of ten, of value ± error.

    >>> interval_text(0.4564, 0.6172, 0.53677, 0.03554)
    '0.456 to 0.617'
    """
    exponent = common_exponent(value, error)
    scale = 10.0**exponent
    decimals = min(places(error / scale), MOST_DECIMALS)
    ends = " to ".join(fixed(round(end / scale, decimals), decimals) for end in (low, high))
    return f"({ends}){power_of_ten(exponent)}" if exponent else ends


def _offset(low: float, high: float) -> float:
    """Return the roundest number near a narrow range far from zero."""
    span, middle = high - low, low / 2 + high / 2
    for power in range(floor(log10(abs(middle))), ceil(log10(span)) - 1, -1):
        step = 10.0**power
        near, below = (float(f"{k * step:.15g}") for k in (round(middle / step), floor(middle / step)))
        if abs(middle - near) <= span:
            return near
        if middle - below <= 100 * span:
            return below
    return 0.0


def axis(
    low: float, high: float, name: str, unit: str = "", *, most: int = 5
) -> tuple[list[float], list[str], str]:
    r"""Return (ticks, their labels, the name of the axis); a large offset and a power of ten go to the name.

    >>> axis(-12.9, 32.9, "t_c", "°C")
    ([-10.0, 0.0, 10.0, 20.0, 30.0], ['−10', '0', '10', '20', '30'], 't_c, °C')
    >>> axis(1e9, 1e9 + 60, "t", most=3)[1:]
    (['0', '20', '40', '60'], 't − 1\u202f000\u202f000\u202f000')
    >>> axis(0, 1e-7, "t", "s", most=2)[1:]
    (['0', '50', '100'], 't, 10⁻⁹\u202fs')
    """
    span, top = high - low, max(abs(low), abs(high))
    if not 1e-290 < span < 1e300:
        return [low], [significant(low, 4)], f"{name}, {unit}" if unit else name
    offset = _offset(low, high) if top > 1e4 * span else 0.0
    if offset:
        decimals = next((d for d in range(20) if round(offset, d) == offset), 20)
        size = fixed(abs(offset), decimals) if abs(offset) < 1e15 else exact(abs(offset))
        name += f" {'+' if offset < 0 else MINUS} {size}"
    inside = ticks(low - offset, high - offset, most)
    top = max((abs(tick) for tick in inside), default=0.0)
    exponent = floor(log10(top) + 1e-9) if top > 0 else 0
    exponent = exponent // 3 * 3 if exponent >= 6 or exponent < -3 else 0
    scaled = [tick / 10.0**exponent for tick in inside]
    if exponent:
        power = power_of_ten(exponent).replace(f"{THIN}×{THIN}", "")
        unit = f"{power}{THIN}{unit}" if unit else f"in {power}"
    labels = [dated(tick_text(tick, scaled), name) for tick in scaled]
    return [offset + tick for tick in inside], labels, f"{name}, {unit}" if unit else name


def in_full(value: float) -> str:
    r"""Return a number with the digits it has, at most ten: a value that was given, not one that was measured here.

    >>> in_full(-35.7), in_full(40.0), in_full(1.5e-9)
    ('−35.7', '40', '1.5\u202f×\u202f10⁻⁹')
    """
    if not isfinite(value):
        return "not finite"
    plain = f"{abs(float(value)):.10g}"
    if "e" in plain:
        return significant(float(value), len(plain.split("e")[0].replace(".", "")))
    return fixed(float(value), len(plain.partition(".")[2]))
