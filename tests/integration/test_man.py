"""The man pages say all that the program, the configuration and the headers have, and nothing else."""

import json
import os
import re
import subprocess

import pytest

from conftest import RELAY_BINARY, ROOT

PAGES = sorted((ROOT / "docs/man").glob("*.[0-9]"))
COMMON = {"config", "help"}


def page(name):
    return (ROOT / "docs/man" / name).read_text()


def run(*arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OUTBOX_RELAY_")}
    return subprocess.run([RELAY_BINARY, *arguments], check=True, text=True, capture_output=True, env=environment).stdout


def commands():
    return re.findall(r"^  ([a-z]+) ", run("--help").partition("Commands:\n")[2].partition("\n\n")[0], re.MULTILINE)


def help_of(command):
    """({option: its argument or ""}, {verbs}, words of usage)."""
    text = run(command, "--help")
    usage = re.search(r"^Usage: outbox-relay \w+ \[OPTION\]\.\.\.(.*)$", text, re.MULTILINE)[1].strip()
    options = dict(re.findall(r"^ +(?:-\w, )?--([a-z-]+) ?([A-Z]*)", text, re.MULTILINE))
    return options, set(re.findall(r"\b[a-z]+\b", usage))


def sections(text, macro):
    """{title: content} of each .Ss or .Sh."""
    parts = re.split(rf"^\.{macro} (.*)\n", text, flags=re.MULTILINE)
    assert len(set(parts[1::2])) == len(parts[1::2]), "a part stands there twice"
    return dict(zip(parts[1::2], parts[2::2]))


def described(name="outbox-relay.1"):
    return sections(sections(page(name), "Sh")["COMMANDS"], "Ss")


def test_every_command_has_its_part_and_no_other():
    assert sorted(described()) == sorted(commands())


@pytest.mark.parametrize("command", commands())
def test_every_option_and_verb_is_described_and_no_other(command):
    options, verbs = help_of(command)
    text = described()[command]
    told = {name: argument.upper() for name, argument in re.findall(r"^\.It Fl -([a-z-]+)(?: Ar (\w+))?$", text,
                                                                     re.MULTILINE)}
    assert told == {name: argument for name, argument in options.items() if name not in COMMON}
    assert verbs <= set(re.findall(r"^\.Cm (\w+)", text, re.MULTILINE))


def test_the_exit_codes_are_those_of_the_help():
    told = re.findall(r"^\.It (\d+)$", sections(page("outbox-relay.1"), "Sh")["EXIT STATUS"], re.MULTILINE)
    assert told == re.findall(r"\b\d+\b", re.search(r"Exit codes: (.*?)\n\n", run("--help"), re.DOTALL)[1])


def shown_defaults(tmp_path):
    empty = tmp_path / "outbox-relay.yaml"
    empty.write_text("")
    return dict(re.findall(r"^([a-z._]+): (.*?)  # ", run("check", "--print", "--config", str(empty)), re.MULTILINE))


def test_every_key_is_described_with_its_default_and_no_other(tmp_path):
    found = {}
    for key, kind, default in re.findall(r"^\.It Li ([a-z._]+) Pq default (\w\w) (.*)$", page("outbox-relay.yaml.5"),
                                         re.MULTILINE):
        default = default.replace(r"\(dq", '"').replace(r"\&", "")
        found[key] = f'"{default}"' if kind == "Qq" else default
    shown = {}
    for key, value in shown_defaults(tmp_path).items():
        text = json.loads(value) if value.startswith('"') and value != '""' else value
        shown[key] = "[]" if text == "0 declared" else text
    assert len(found) > 25 and found == shown


def test_each_key_stands_in_the_part_of_its_section():
    for title, text in sections(page("outbox-relay.yaml.5"), "Ss").items():
        assert {key.partition(".")[0] for key in re.findall(r"^\.It Li ([a-z]+\.[a-z._]+)", text, re.MULTILINE)} <= {title}


def header_names(header):
    """(functions and callbacks, constants, members) of a public header."""
    text = re.sub(r"/\*.*?\*/", "", (ROOT / "include" / header).read_text(), flags=re.DOTALL)
    prefix = header.partition(".")[0]
    functions = set(re.findall(rf"\b({prefix}_\w+)\(", text))
    constants = set(re.findall(rf"\b({prefix.upper()}_[A-Z_]+)\b", text)) - {f"{prefix.upper()}_{end}" for end in ("H", "API")}
    members = set()
    for body in re.findall(r"\bstruct \w+ \{(.*?)\}", text, re.DOTALL):
        members |= set(re.findall(r"(\w+)(?:\[\w+\])?;", body))
    return functions, constants, members


@pytest.mark.parametrize("header", ["outbox.h", "inbox.h"])
def test_every_name_of_a_header_is_described_and_no_other(header):
    functions, constants, members = header_names(header)
    text = page(f"{header}.3")
    assert set(re.findall(r"^\.F[on] (\w+)", text, re.MULTILINE)) == functions
    told = {name for line in re.findall(r"\bDv (.*)$", text, re.MULTILINE) for name in re.findall(r"[A-Z_]{2,}", line)}
    assert told - {"NULL"} == constants
    named = {name for line in re.findall(r"^\.(?:It )?Fa ([^\"]*)$", text, re.MULTILINE) for name in line.split()}
    assert members <= named, members - named


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_the_formatters_have_nothing_to_say(file):
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", file], env=environment, text=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", file], text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_pages_are_installed_and_found(tmp_path):
    subprocess.run(["make", "-s", "install", f"DESTDIR={tmp_path}"], cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
    for file in PAGES:
        name, section = file.name.rsplit(".", 1)
        done = subprocess.run(["man", "-M", tmp_path / "usr/local/share/man", "-w", section, name], check=True, text=True,
                              stdout=subprocess.PIPE)
        assert done.stdout.strip() == str(tmp_path / f"usr/local/share/man/man{section}/{file.name}")
