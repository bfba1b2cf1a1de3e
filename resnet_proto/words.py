"""Strings that prototxt spells without quotes."""


class Word(str):
    """An enum's name, or a value of an unknown field exactly as it was spelled."""

    __slots__ = ()
