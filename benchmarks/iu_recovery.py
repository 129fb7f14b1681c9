"""How many reports with known sections the cleaning takes apart exactly, for each way of writing headers.

The reports are those of Indiana University (NLMCXR_reports.tgz, or the folder it unpacks to), whose sections are
labelled; tests/report_styles.py puts them into MIMIC-CXR's text styles, XXXX written ___. All reports count, those
without Findings and Impression too: they have to be dropped.

Exact: both sections equal, character for character, what `clean_section` makes of the labelled text on its own, and
nothing is where the label is blank. `clean_section` unifies Unicode, drops ___ with the brackets left empty, makes blanks
single, drops blanks before a full stop and the numbers of lists; "words lost by it" says how many words of the labelled
texts that costs (they are those numbers). No text is printed.

    python benchmarks/iu_recovery.py --reports NLMCXR_reports.tgz
"""

import argparse
import re
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("workflow/scripts", "tests"))

from refers.text.cleaning import clean_report, clean_section
from report_styles import STYLES, Sections

MARK = 0.995


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reports", type=Path, required=True, help="NLMCXR_reports.tgz or its folder")
    parser.add_argument("--missed", action="store_true", help="also print the ids of the reports missed")
    return parser.parse_args()


def read(folder: Path) -> Iterator[tuple[str, Sections]]:
    """(id, sections) of every report below a folder."""
    for path in sorted(folder.rglob("*.xml")):
        found = {
            part.get("Label", ""): re.sub(r"X{3,}", "___", part.text or "")
            for part in ElementTree.parse(path).iter("AbstractText")
        }
        names = ("INDICATION", "COMPARISON", "FINDINGS", "IMPRESSION")
        yield path.stem, Sections(*(found.get(name, "").strip() for name in names))


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text)


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory() as unpacked:
        folder = args.reports
        if not folder.is_dir():
            with tarfile.open(folder) as archive:
                archive.extractall(unpacked, filter="data")
            folder = Path(unpacked)
        reports = dict(read(folder))
    if not reports:
        raise SystemExit(f"error: {args.reports}: no XML report")
    labelled = [text for sections in reports.values() for text in sections[2:]]
    written = sum(len(words(text)) for text in labelled)
    lost = written - sum(len(words(clean_section(text))) for text in labelled)
    print(f"{len(reports)} reports, {written} words in their sections, words lost by clean_section: {lost}")
    rates = []
    for name, style in STYLES.items():
        missed = []
        for report, sections in reports.items():
            text, findings, impression = style(sections)
            cleaned = clean_report(text)
            if (cleaned.findings, cleaned.impression) != (clean_section(findings), clean_section(impression)):
                missed.append(report)
        rates.append(1 - len(missed) / len(reports))
        listed = f"  missed: {' '.join(missed)}" if args.missed and missed else ""
        print(f"{100 * rates[-1]:7.2f} %  {name}{listed}", flush=True)
    print(f"{100 * min(rates):7.2f} %  the lowest; the mark is {100 * MARK} %")
    raise SystemExit(min(rates) < MARK)


if __name__ == "__main__":
    main()
