"""What the checks found: problems by kind, with the first few of each spelled out, and figures for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

SPELLED_OUT = 10
"""Of each kind of problem so many are told one by one; the rest as a number."""


@dataclass(slots=True)
class Report:
    """The checker's answer. ``figures`` are counts worth a line; they judge nothing."""

    figures: dict[str, int | float | str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _texts: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, text: str) -> None:
        """Notes one problem of a kind such as ``F1 lost``."""
        self.counts[kind] += 1
        texts = self._texts.setdefault(kind, [])
        if len(texts) < SPELLED_OUT:
            texts.append(text)

    @property
    def problems(self) -> list[str]:
        """Every kind of problem, its first examples, and how many more there are."""
        found: list[str] = []
        for kind, texts in self._texts.items():
            found += [f"{kind}: {text}" for text in texts]
            more = self.counts[kind] - len(texts)
            if more:
                found.append(f"{kind}: and {more} more")
        return found

    @property
    def ok(self) -> bool:
        return not self.counts

    def summary(self) -> str:
        """A few lines for people: the figures, the notes, the problems."""
        lines = [f"  {name}: {value}" for name, value in self.figures.items()]
        lines += [f"  note: {note}" for note in self.notes]
        if self.ok:
            lines.append("  no problem found")
        else:
            lines.append(f"  {sum(self.counts.values())} problems")
            lines += [f"  ! {problem}" for problem in self.problems]
        return "\n".join(lines)
