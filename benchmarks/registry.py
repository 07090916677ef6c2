"""Registry and hub: transfers beside a bare file server, lists of 10,000 models, inspection.

`python -m benchmarks.registry`. Each figure's own module says what it measures and how.
"""

from __future__ import annotations

from benchmarks import inspection, listing, transfer


def main() -> None:
    """Prints the table."""
    found = [*transfer.figures(), *listing.figures(), *inspection.figures()]
    width = max(len(figure.name) for figure in found)
    for figure in found:
        print(f"{figure.name:<{width}}  {figure.value:>14}  {figure.goal}")


if __name__ == "__main__":
    main()
