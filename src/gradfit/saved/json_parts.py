"""JSON that is read with suspicion: every value is asked for by its kind, and its place is known when it is another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import DataError

Array = NDArray[np.float64]


def is_list(value: object) -> TypeGuard[list[object]]:
    """Whether a value of JSON is a list."""
    return isinstance(value, list)


def is_object(value: object) -> TypeGuard[dict[str, object]]:
    """Whether a value of JSON is an object: names with values."""
    return isinstance(value, dict)


@dataclass(frozen=True)
class Part:
    """A value in a JSON file.

    Attributes
    ----------
    value : object
        As JSON has it.
    file : str
        Where it comes from.
    place : str
        The keys that lead to it.
    """

    value: object
    file: str
    place: str = ""

    def damaged(self, wanted: str) -> DataError:
        """Return the error for a value of the wrong kind."""
        seen = repr(self.value)
        seen = seen if len(seen) <= 40 else f"{seen[:37]}..."
        return DataError(
            f"{self.file} is damaged: {self.place or 'it'} is {seen}, and should be {wanted}",
            remedy="Save the fit again",
        )

    def __getitem__(self, key: str) -> "Part":
        if not is_object(self.value) or key not in self.value:
            raise DataError(
                f"{self.file} is damaged: {self.place + '.' if self.place else ''}{key} is missing",
                remedy="Save the fit again",
            )
        return Part(self.value[key], self.file, f"{self.place}.{key}" if self.place else key)

    def __iter__(self) -> Iterator["Part"]:
        if not is_list(self.value):
            raise self.damaged("a list")
        for i, inside in enumerate(self.value):
            yield Part(inside, self.file, f"{self.place}[{i}]")

    def items(self) -> Iterator[tuple[str, "Part"]]:
        """Yield the names and values of an object."""
        if not is_object(self.value):
            raise self.damaged("an object")
        for key, inside in self.value.items():
            yield str(key), Part(inside, self.file, f"{self.place}.{key}")

    def text(self) -> str:
        """Return a text."""
        if not isinstance(self.value, str):
            raise self.damaged("a text")
        return self.value

    def texts(self) -> tuple[str, ...]:
        """Return a list of texts."""
        return tuple(part.text() for part in self)

    def truth(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            raise self.damaged("true or false")
        return self.value

    def whole(self, least: int = 0) -> int:
        """Return a whole number from `least` up."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not least <= self.value < 2**62:
            raise self.damaged(f"a whole number from {least} up")
        return self.value

    def number(self) -> float:
        """Return a number: null is NaN, "inf" and "-inf" are the infinities."""
        if self.value is None:
            return float("nan")
        if isinstance(self.value, str) and self.value in ("inf", "-inf"):
            return float(self.value)
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.damaged("a number")
        try:
            return float(self.value)
        except OverflowError as error:
            raise self.damaged("a number that a float can hold") from error

    def wholes(self, size: int) -> NDArray[np.int64]:
        """Return whole numbers, `size` of them."""
        numbers = self.numbers(size)
        if not np.all((numbers == np.round(numbers)) & (np.abs(numbers) < 2**53)):
            raise self.damaged("a list of whole numbers")
        return numbers.astype(np.int64)

    def numbers(self, *shape: int) -> Array:
        """Return numbers of that shape; -1 stands for any length."""
        if not is_list(self.value):
            raise self.damaged("a list of numbers")
        try:
            array: Array = np.array(self.value, dtype=np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            raise self.damaged("numbers in rows of one length") from error
        if not array.size and 0 in (len(self.value), *shape):
            array = (
                array.reshape([0 if n == -1 else n for n in shape]) if 0 in shape or -1 in shape else array
            )
        if len(array.shape) != len(shape) or any(
            n not in (-1, seen) for n, seen in zip(shape, array.shape, strict=True)
        ):
            raise self.damaged(f"numbers of shape {shape}")
        return array
