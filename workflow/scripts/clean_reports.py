"""Keep Findings and Impression of every MIMIC-CXR report and drop reports of fewer than three tokens (paper §4).

In: the folder mimic-cxr-reports. Out: reports.parquet (study_id, patient_id, text) and the funnel of counts as JSON.
The text is credentialed: it stays in the interim folder and is never printed.
"""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from refers.errors import UserError, run
from refers.files import atomic_path, write_json
from refers.reports import MIN_TOKENS, clean_report, count_tokens, read_reports

SCHEMA = pa.schema([("study_id", pa.string()), ("patient_id", pa.string()), ("text", pa.string())])
BATCH = 8192  # reports held in memory at a time
PROGRESS = 50000


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reports", type=Path, required=True, help="folder mimic-cxr-reports")
    parser.add_argument("--out", type=Path, required=True, help="reports.parquet")
    parser.add_argument("--funnel", type=Path, required=True, help="reports.json")
    return parser.parse_args()


def clean(folder: Path, out: Path) -> dict[str, int]:
    """Write the kept reports to `out`, a batch at a time; return the funnel."""
    reports = with_section = kept = tokens = 0
    seen: set[str] = set()
    rows: list[tuple[str, str, str]] = []
    with pq.ParquetWriter(out, SCHEMA) as writer:

        def flush() -> None:
            columns = list(zip(*rows, strict=True)) or [[], [], []]
            writer.write_table(pa.table([pa.array(column, pa.string()) for column in columns], schema=SCHEMA))
            rows.clear()

        for report in read_reports(folder):
            if report.study_id in seen:
                raise UserError(
                    f"{folder}: study {report.study_id} has two reports, one of them of patient {report.patient_id}; keep one"
                )
            seen.add(report.study_id)
            reports += 1
            cleaned = clean_report(report.text)
            count = count_tokens(cleaned.text)
            with_section += bool(cleaned.text)
            if count >= MIN_TOKENS:
                kept, tokens = kept + 1, tokens + count
                rows.append((report.study_id, report.patient_id, cleaned.text))
            if len(rows) == BATCH:
                flush()
            if reports % PROGRESS == 0:
                print(f"{reports} reports read, {kept} kept", flush=True)
        flush()
    return {
        "reports": reports,
        "with_findings_or_impression": with_section,
        f"at_least_{MIN_TOKENS}_tokens": kept,
        "dropped": {
            "no findings or impression": reports - with_section,
            f"fewer than {MIN_TOKENS} tokens": with_section - kept,
        },
        "words": tokens,
    }


def main() -> None:
    args = parse_args()
    with atomic_path(args.out) as path:
        funnel = clean(args.reports, path)
        if not funnel[f"at_least_{MIN_TOKENS}_tokens"]:
            raise UserError(
                f"{args.reports}: {funnel['reports']} reports, none with Findings or Impression of {MIN_TOKENS} tokens;"
                " check the folder"
            )
    write_json(args.funnel, funnel)
    print(
        f"{funnel['reports']} reports -> {funnel['with_findings_or_impression']} with findings or impression"
        f" -> {funnel[f'at_least_{MIN_TOKENS}_tokens']} of at least {MIN_TOKENS} tokens"
    )


if __name__ == "__main__":
    run(main)
