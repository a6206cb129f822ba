"""The figures as a table on stdout, as JSON and as charts."""

import datetime
import json
import os
import pathlib
import platform
import subprocess

from harness.figures import quartiles

ROOT = pathlib.Path(__file__).resolve().parents[3]


def first_line(*command):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, cwd=ROOT)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return (done.stdout.strip().splitlines() or ["unknown"])[0] if done.returncode == 0 else "unknown"


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def circumstances(bench):
    """Where and with what it was measured."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": first_line("git", "rev-parse", "--short", "HEAD"),
        "cpu": cpu_model(), "cores": os.cpu_count(), "kernel": platform.release(),
        "postgres": bench.postgres.value("SHOW server_version"),
        "rabbitmq": first_line(os.environ["RABBITMQCTL"], "version"),
        "load_at_end": os.getloadavg()[0],
        "quick": bench.quick, "pairs": bench.pairs,
    }


def shown(figure):
    first, median, third = quartiles(figure.samples)
    text = f"{median:,.{figure.places}f}"
    if len(figure.samples) > 1:
        text += f" [{first:,.{figure.places}f}..{third:,.{figure.places}f}]"
    return f"{text} {figure.unit}".rstrip()


def verdict(figure):
    return {None: "", True: "met", False: "MISSED"}[figure.met()]


def target(figure):
    return "" if figure.target is None else f"{figure.target[0]} {figure.target[1]:g}"


def print_table(figures):
    rows = [("figure", "median [quartiles]", "n", "target", "")]
    for f in figures:
        rows.append((f"{f.measurement}: {f.what}", shown(f), str(len(f.samples)), target(f), verdict(f)))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    notes = sorted({f.note for f in figures if f.note})
    for note in notes:
        print(f"  note: {note}")


def print_summary(figures, failures, seconds):
    judged = [f for f in figures if f.target is not None]
    missed = [f for f in judged if not f.met()]
    print(f"\nbench: {len(judged) - len(missed)} of {len(judged)} targets met, {len(missed)} missed"
          f"{', ' + str(len(failures)) + ' measurements failed' if failures else ''}, {seconds:.0f} s")
    for f in missed:
        print(f"  MISSED {f.measurement}: {f.what}: {shown(f)}, target {target(f)}")
    for name, text in failures:
        print(f"  FAILED {name}: {text}")


def write_files(bench, directory, failures):
    directory.mkdir(parents=True, exist_ok=True)
    content = {"circumstances": circumstances(bench), "figures": [f.as_json() for f in bench.figures],
               "failures": [{"measurement": name, "error": text} for name, text in failures]}
    (directory / "bench.json").write_text(json.dumps(content, indent=1) + "\n")
    for name, svg in bench.charts.items():
        (directory / name).write_text(svg)
    return content["circumstances"]
