"""Files of rows as people have them: how many are read as stated, and what a table of gigabytes takes."""

import argparse

from benchmarks.common import print_table, row, write_results
from tests.support.formats import cases, csv_stream, differences, lacks_reader, read_stream

PIECE_BYTES = 64 << 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=2048, help="size of the table")
    args = parser.parse_args()
    wrong = {case["file"]: found for case in cases() if (found := differences(case, PIECE_BYTES))}
    for file, found in wrong.items():
        print(f"{file}: {'; '.join(found)}")
    count, without = len(cases()), sum(map(lacks_reader, cases()))
    rows_read, peak, seconds = read_stream(csv_stream(args.mib << 20))
    spread = f"n={count}" + (f", {without} of them without a reader of zstd here" if without else "")
    rows = [
        row("formats_read", 1 - len(wrong) / count, "share", spread=spread, goal=1),
        row(f"csv_{args.mib}_mib_peak", peak / (1 << 20), "MiB", spread=f"{rows_read} rows", goal=4, at_least=False),
        row(f"csv_{args.mib}_mib_seconds", seconds, "s", spread="while its memory is traced"),
    ]
    print_table(rows)
    write_results("formats", rows)


if __name__ == "__main__":
    main()
