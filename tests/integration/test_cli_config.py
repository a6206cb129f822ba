"""The command line and the configuration, through the built binary; no server is needed."""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = (ROOT / os.environ.get("RELAY", "build/outbox-relay")).resolve()
SAMPLE = ROOT / "config/outbox-relay.yaml"
USAGE, CONFIGURATION = 64, 78


def run(*arguments, env=None, cwd=None):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OUTBOX_RELAY_")}
    return subprocess.run([BINARY, *map(str, arguments)], env={**clean, **(env or {})}, cwd=cwd, text=True,
                          capture_output=True, timeout=30, check=False)


@pytest.fixture
def write(tmp_path):
    def write(text, mode=0o600):
        path = tmp_path / "relay.yaml"
        path.write_text(text)
        path.chmod(mode)
        return path
    return write


def printed(*arguments, **more):
    """What check --print shows: {key: (value, place)}."""
    result = run("check", "--print", *arguments, **more)
    assert (result.returncode, result.stderr) == (0, "")
    lines = [re.fullmatch(r"(\S+): (.*)  # (.*)", line) for line in result.stdout.splitlines()]
    return {line[1]: (line[2], line[3]) for line in lines}


def commands():
    text = run("--help").stdout
    return re.findall(r"^  ([a-z]+) ", text.partition("Commands:\n")[2].partition("\nOptions:")[0], re.MULTILINE)


# ---- the command line ----------------------------------------------------------------------------------

def test_help_lists_the_commands_and_each_explains_itself():
    assert {"run", "check"} <= set(commands())
    for command in commands():
        for result in run(command, "--help"), run(command, "-h", "--config", "/no/such"):
            assert (result.returncode, result.stderr) == (0, "")
            assert result.stdout.startswith(f"Usage: outbox-relay {command} ")
            assert f"\nExample: outbox-relay {command}" in result.stdout
    result = run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "Example: outbox-relay" in result.stdout and "64 usage" in result.stdout
    assert run("help").stdout == result.stdout
    assert run("help", "dead").stdout == run("dead", "--help").stdout
    result = run("help", "daed")
    assert result.returncode == 64 and 'did you mean "dead"?' in result.stderr


def test_version():
    for option in "--version", "-V":
        result = run(option)
        assert (result.returncode, result.stderr) == (0, "")
        assert re.fullmatch(r"outbox-relay \d+\.\d+\.\d+\n", result.stdout)


@pytest.mark.parametrize("arguments, words", [
    ([], "a command is missing"),
    (["chek"], 'unknown command "chek"; did you mean "check"?'),
    (["frobnicate"], 'unknown command "frobnicate"\n'),
    (["--confg", "x"], "unknown option --confg; did you mean --config?"),
    (["check", "--prnt"], "unknown option --prnt; did you mean --print?"),
    (["check", "--pirnt=yes"], "unknown option --pirnt; did you mean --print?"),
    (["check", "--print=yes"], "option --print takes no argument"),
    (["check", "--frobnicate"], "unknown option --frobnicate\n"),
    (["check", "-x"], "unknown option -x"),
    (["check", "--config"], "option --config needs an argument"),
    (["run", "--untilempty"], "did you mean --until-empty?"),
    (["check", "this"], 'check: unexpected "this"'),
])
def test_a_wrong_command_line_exits_with_64(arguments, words):
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (USAGE, "")
    assert words in result.stderr
    assert "--help" in result.stderr


def test_config_may_stand_before_or_behind_the_command(write):
    path = write("publish: {window: 1234}\n")
    for arguments in (["--config", path, "check", "--print"], ["check", "--print", "-c", path],
                      ["check", f"--config={path}", "--print"]):
        result = run(*arguments)
        assert result.returncode == 0
        assert f"publish.window: 1234  # {path}:1\n" in result.stdout


def test_output_that_cannot_be_written_is_no_success():
    with open("/dev/full", "w", encoding="ascii") as full:
        result = subprocess.run([BINARY, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 70
    assert "cannot write the output: No space left on device" in result.stderr


# ---- check ---------------------------------------------------------------------------------------------

def test_the_sample_is_valid_and_equals_the_defaults():
    result = run("check", "--config", SAMPLE)
    assert (result.returncode, result.stderr) == (0, "")
    sample = printed("--config", SAMPLE)
    usual = printed(env={"OUTBOX_RELAY_CONFIG": "/dev/null"})
    assert {key: value for key, (value, _) in sample.items()} == {key: value for key, (value, _) in usual.items()}
    assert {place for _, place in usual.values()} == {"default"}
    assert all(place.startswith(f"{SAMPLE}:") for _, place in sample.values())


def test_every_mistake_is_named_with_file_line_and_column(write):
    path = write("publish:\n  windwo: 5\n  batch: many\nrabbitmq:\n  urls: [amqp://h, 'http://u:hunter2@h']\n"
                 "postgres:\n  dsn: host=h passwort=hunter2\n")
    for command in "check", "run":
        result = run(command, "--config", path)
        assert (result.returncode, result.stdout) == (CONFIGURATION, "")
        lines = result.stderr.splitlines()
        assert len(lines) == 4
        assert lines[0] == f'{path}:2:3: error: unknown key "windwo" in publish; did you mean "window"?'
        assert lines[1] == f'{path}:3:10: error: publish.batch must be a whole number, not "many"'
        assert lines[2].startswith(f"{path}:7:8: error: postgres.dsn: libpq cannot read it: ")
        assert "did you mean password?" in lines[2]
        assert lines[3].startswith(f"{path}:5:20: error: rabbitmq.urls: ")
        assert "hunter2" not in result.stderr


def test_a_named_file_must_be_there_and_readable(tmp_path, write):
    for path, why in (tmp_path / "none.yaml", "No such file or directory"), (tmp_path, "Is a directory"):
        for result in run("check", "--config", path), run("check", env={"OUTBOX_RELAY_CONFIG": str(path)}):
            assert (result.returncode, result.stdout) == (CONFIGURATION, "")
            assert f"{path}: error: cannot be read: {why}" in result.stderr
    path = write("{}\n", 0o000)
    path.parent.chmod(0o755)
    unprivileged = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
    result = subprocess.run([*unprivileged, BINARY, "check", "--config", path], text=True, capture_output=True,
                            cwd="/", check=False)
    if "failed to execute" in result.stderr:
        pytest.skip("another user cannot reach the build directory")
    assert result.returncode == CONFIGURATION
    assert "cannot be read: Permission denied" in result.stderr


def test_the_option_beats_the_variable(write, tmp_path):
    path = write("publish: {window: 77}\n")
    shown = printed("--config", path, env={"OUTBOX_RELAY_CONFIG": str(tmp_path / "none")})
    assert shown["publish.window"] == ("77", f"{path}:1")


def test_the_environment_beats_the_file(write):
    path = write("publish:\n  window: 5000\nrabbitmq:\n  urls: [amqp://file]\nhttp: {listen: '127.0.0.1:1'}\n")
    shown = printed("--config", path, env={
        "OUTBOX_RELAY_PUBLISH_WINDOW": "7000",
        "OUTBOX_RELAY_RABBITMQ_URLS": "amqp://a,amqps://b:5671/%2f",
        "OUTBOX_RELAY_HTTP_LISTEN": "",
    })
    assert shown["publish.window"] == ("7000", "environment OUTBOX_RELAY_PUBLISH_WINDOW")
    assert shown["rabbitmq.urls"] == ('["amqp://a", "amqps://b:5671/%2f"]', "environment OUTBOX_RELAY_RABBITMQ_URLS")
    assert shown["http.listen"] == ("null", "environment OUTBOX_RELAY_HTTP_LISTEN")
    assert shown["publish.batch"] == ("500", "default")


def test_every_printed_key_can_be_set_by_the_environment():
    shown = printed(env={"OUTBOX_RELAY_CONFIG": "/dev/null"})
    lists = {"rabbitmq.urls": "amqp://a", "topology.exchanges": "[]", "topology.queues": "[]",
             "topology.bindings": "[]"}
    env = {"OUTBOX_RELAY_" + key.upper().replace(".", "_"): lists.get(key, value.strip('"'))
           for key, (value, _) in shown.items()}
    again = printed(env={"OUTBOX_RELAY_CONFIG": "/dev/null", **env})
    assert all(place.startswith("environment OUTBOX_RELAY_") for _, place in again.values())


def test_a_mistake_in_the_environment_names_the_variable():
    result = run("check", env={"OUTBOX_RELAY_PUBLISH_WINDOW": "lots", "OUTBOX_RELAY_PUBLISH_WINDOWS": "5",
                               "OUTBOX_RELAY_RABBITMQ_URLS": "amqp://h,nonsense"})
    assert (result.returncode, result.stdout) == (CONFIGURATION, "")
    assert "environment OUTBOX_RELAY_PUBLISH_WINDOW: error: publish.window must be a whole number" in result.stderr
    assert "unknown variable OUTBOX_RELAY_PUBLISH_WINDOWS; did you mean OUTBOX_RELAY_PUBLISH_WINDOW?" in result.stderr
    assert "environment OUTBOX_RELAY_RABBITMQ_URLS: error: rabbitmq.urls: " in result.stderr


@pytest.mark.parametrize("dsn", ["host=h user=u password=hunter2", "postgresql://u:hunter2@h/d",
                                 "postgresql://h/d?password=hunter2", "password='hunter2 x' sslpassword=hunter2"])
def test_print_masks_every_secret(dsn, write):
    path = write("rabbitmq: {urls: ['amqp://relay:hunter2@h/%2f', 'amqp://relay@h', 'amqps://a%40b:${PW}@[::1]']}\n")
    result = run("check", "--print", "--config", path, env={"OUTBOX_RELAY_POSTGRES_DSN": dsn, "PW": "hunter2"})
    assert result.returncode == 0
    assert "hunter2" not in result.stdout + result.stderr
    assert re.search(r'^postgres.dsn: ".*password=\*\*\*.*"  # environment OUTBOX_RELAY_POSTGRES_DSN$',
                     result.stdout, re.MULTILINE)
    urls = re.search(r"^rabbitmq.urls: \[(.*)\]  # ", result.stdout, re.MULTILINE)[1].split(", ")
    assert urls[0].startswith('"amqp://relay:***@h')
    assert urls[1] == '"amqp://relay@h"'
    assert urls[2].startswith('"amqps://a%40b:***@[::1]')


def test_a_password_that_everybody_may_read_is_a_warning(write):
    path = write("postgres: {dsn: host=h password=hunter2}\n", 0o644)
    result = run("check", "--config", path)
    assert result.returncode == 0
    assert f"{path}:1:17: warning: postgres.dsn holds a password, and everybody may read this file" in result.stderr
    assert "hunter2" not in result.stderr
    result = run("check", "--config", write("postgres: {dsn: 'host=h password=${PW}'}\n", 0o644), env={"PW": "x"})
    assert (result.returncode, result.stderr) == (0, "")


def test_systemd_credentials_are_found_by_name(write, tmp_path):
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "pg").write_text("hunter2\n")
    (credentials / "pg").chmod(0o400)
    path = write("postgres: {password_file: pg}\n")
    shown = printed("--config", path, env={"CREDENTIALS_DIRECTORY": str(credentials)})
    assert shown["postgres.password_file"][0] == f'"{credentials}/pg"'
    result = run("check", "--config", path)
    assert result.returncode == CONFIGURATION
    assert f"{path}:1:27: error: postgres.password_file: cannot read {tmp_path}/pg: No such file" in result.stderr


def test_a_relative_file_lies_beside_the_configuration(write, tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o600)
    path = write("postgres: {password_file: secret}\n")
    assert printed("--config", path, cwd="/")["postgres.password_file"][0] == f'"{tmp_path}/secret"'
    assert printed("--config", path.name, cwd=tmp_path)["postgres.password_file"][0] == '"secret"'
