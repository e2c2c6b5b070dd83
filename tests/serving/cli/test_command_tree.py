"""All commands: examples that parse, JSON, one type for each option, and the precedence of defaults."""

import inspect
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from callsieve.serving.cli import command_tree, console
from callsieve.serving.cli import configuration as configuration_file
from callsieve.serving.cli.command_tree import EXTRAS, commands
from callsieve.serving.cli.configuration import FILE, configuration, options
from callsieve.training.cli.command_table import ROOT as COMMAND
from callsieve.training.cli.command_table import TABLE, main

ALL = dict(commands(COMMAND))
EXAMPLE = re.compile(r"Example: callsieve (.*)\Z", re.DOTALL)
# Options that some commands take once and others several times, or with another enumeration of purposes.
SEVERAL = {"callees-key", "data", "key", "purpose", "registers", "state", "verdicts"}


def example(name):
    """Returns the words after the command's name in its example."""
    words, path = shlex.split(EXAMPLE.search(ALL[name].help)[1]), name.split()
    assert words[: len(path)] == path, name
    return words[len(path) :]


def shared(name):
    """Returns the options of the root that the help of a command names."""
    return set(re.findall(r"--([a-z-]+)", ALL[name].epilog or ""))


class ParsedError(Exception):
    """Ends a command whose line is valid."""


@pytest.fixture
def parse(monkeypatch):
    """Reads a line, without the work of its command; returns the shared options."""
    seen = []

    def values(context, defaults):
        seen.append(configuration_file.shared_values(context, defaults))
        raise ParsedError

    def run(*words):
        with pytest.raises(ParsedError):
            COMMAND.main(words, "callsieve", standalone_mode=False)
        return seen[-1]

    monkeypatch.setattr(command_tree, "shared_values", values)
    return run


@pytest.mark.parametrize("name", ["serve", "cases serve", "live agi", "live tap"])
def test_a_port_above_65535_is_refused(name):
    """A larger number would be reduced to 16 bits, so the service would listen on another port."""
    with pytest.raises(Exception, match="65535"):
        COMMAND.main([*name.split(), *example(name), "--port", "65536"], standalone_mode=False)


def test_every_command_has_an_example_that_parses(tmp_path, monkeypatch, parse):
    monkeypatch.chdir(tmp_path)
    for name in ALL:
        parse(*name.split(), *example(name))


def test_an_option_of_the_root_stands_anywhere_and_in_no_command(parse, monkeypatch):
    words = ["model", "verify", "--bundle", "b"]
    assert parse(*words) == {"json": False}
    assert all(parse(*words[:place], "--json", *words[place:]) == {"json": True} for place in range(5))
    for line in (["--threads", "3", *DEMO], [*DEMO, "--threads=3"], ["--seed", "1", *DEMO, "--threads", "3", "--json"]):
        assert parse(*line)["threads"] == 3
    assert parse(*DEMO) == {"seed": 1, "threads": 0, "lang": "en", "json": False}
    monkeypatch.setenv("CALLSIEVE_SEED", "5")
    assert parse(*DEMO)["seed"] == 5
    assert not [name for name, command in ALL.items() if set(options(command)) & set(options(COMMAND))]


DEMO = ["demo", "--size", "tiny"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("model verify --bundle b --audit log --seed 1", "verify: --seed, --audit: not used with this command"),
        ("privacy undeclare world", "Missing option '--person'"),
        ("--audit", "Option '--audit' requires an argument"),
    ],
)
def test_an_option_of_the_root_that_a_command_does_not_read_or_lacks_is_wrong_usage(line, message, run_cli):
    code, out, err = run_cli(*line.split())
    assert (code, out) == (2, "") and message in err


def test_every_command_names_a_next_command_that_exists():
    for name, command in ALL.items():
        (text,) = re.findall(r"Next: callsieve ([^.]+)\.", " ".join(command.help.split()))
        for part in text.split(", or "):
            words = part.partition(",")[0].split()
            (following,) = (known for known in ALL if words[: len(known.split())] == known.split())
            assert following != name
            chosen = {word.removeprefix("--") for word in words[len(following.split()) :]}
            assert chosen <= set(options(ALL[following])) | shared(following), name


def test_help_lists_at_most_16_commands_under_three_headings(run_cli):
    names = {path.partition(" ")[0] for rows in TABLE.values() for path in rows}
    assert len(TABLE) == 3 and len(names) <= 16
    assert names == {name.partition(" ")[0] for name in ALL}
    code, out, _ = run_cli("--help")
    assert code == 0
    assert all(heading in out for heading in TABLE) and all(f"│ {name} " in out for name in names)
    assert "─ Commands ─" not in out
    assert "Exit codes: 0" in out


LIGHT = """
import sys
sys.argv = ["callsieve", *sys.argv[1:]]
from callsieve.training.cli.command_table import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
print("modules:", *sorted(name for name in sys.modules if ".cli." in name))
"""


@pytest.mark.system
@pytest.mark.parametrize("words", [["--help"], ["serve", "--help"], ["model", "verify", "--help"], ["cases", "--help"]])
def test_help_loads_no_package_that_the_command_needs(words):
    done = subprocess.run([sys.executable, "-c", LIGHT, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("loaded:")[2].split())
    assert not loaded & {"pandas", "mlflow", "sqlalchemy", "uvicorn", "starlette", "pyarrow", "sklearn", "matplotlib"}
    if words[0] == "serve":
        assert "callsieve.training.cli.train_commands" not in loaded


@pytest.mark.parametrize(("module", "extra"), [("lightgbm", "train"), ("uvicorn", "serve"), ("sqlalchemy", "cases")])
def test_a_missing_package_is_reported_in_one_line_with_its_extra(module, extra, run_command, monkeypatch):
    def missing(_):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("callsieve.serving.bundle.verify.verify", lambda *_, **_more: missing(module))
    code, out, err = run_command("model", "verify", "--bundle", "bundle")
    assert (code, out) == (1, "")
    assert err == f"callsieve: the package {module} is not installed: pip install 'callsieve[{extra}]'\n"
    assert EXTRAS.get(module, "train") == extra


def test_every_command_that_ends_has_a_json_option_and_version_prints_the_installed_one(run_cli):
    assert {name for name in ALL if "json" not in shared(name)} == {"cases watch"}
    assert run_cli("--version") == (0, f"callsieve {version('callsieve')}\n", "")


def test_an_option_has_a_help_text_and_one_type_in_all_commands():
    kinds = {}
    for command in (COMMAND, *ALL.values()):
        for word, option in options(command).items():
            assert option.help, word
            kinds.setdefault(word, set()).add(type_of(option))
    assert {word for word, types in kinds.items() if len(types) > 1} == SEVERAL


def type_of(option):
    """Returns the name of the type of an option's value."""
    annotation = option.type_descriptor.annotation
    return getattr(annotation, "__name__", str(annotation))


@pytest.fixture
def seed(monkeypatch, capsys, tmp_path):
    """Runs `simulate` and returns the seed of its world."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["callsieve", "simulate", "--size", "tiny", "--json", *words])
        folder = tmp_path / f"world-{len(list(tmp_path.iterdir()))}"
        sys.argv += ["--out", str(folder)]
        with pytest.raises(SystemExit, match="0"):
            main()
        return json.loads(capsys.readouterr().out)["seed"]

    return run


@pytest.mark.system
def test_options_precede_variables_files_and_defaults(seed, tmp_path, monkeypatch):
    assert seed() == "1"
    (tmp_path / FILE).write_text("seed = 2\n")
    assert seed() == "2"
    monkeypatch.setenv("CALLSIEVE_SEED", "3")
    assert seed() == "3"
    assert seed("--seed", "4") == "4"
    monkeypatch.delenv("CALLSIEVE_SEED")
    (tmp_path / "other.toml").write_text("seed = 5\n")
    monkeypatch.setenv("CALLSIEVE_CONFIG", str(tmp_path / "other.toml"))
    assert seed() == "5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sead = 1", "sead: expected one of adapt, audit, cases"),
        ("[simulate]\nseed = 1", "simulate.seed: expected one of key, out, scenario, size"),
        ("[audit]\nverify = 1", "audit.verify: expected a table of options"),
        ("[train.data]\nx = 1", "train.data: expected a value, got a table"),
        ("[seed]\nx = 1", "seed: expected a value, got a table"),
        ("[train", "expected a TOML file"),
        pytest.param("x=" + "[" * 100_000, "expected a TOML file", id="deep"),
    ],
)
def test_a_configuration_file_with_unknown_names_is_refused_in_one_line(text, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "wrong.toml").write_text(text)
    monkeypatch.setenv("CALLSIEVE_CONFIG", str(tmp_path / "wrong.toml"))
    with pytest.raises(ValueError) as error:
        configuration(COMMAND)
    assert str(error.value).startswith(str(tmp_path / "wrong.toml")) and message in str(error.value)
    monkeypatch.setattr(sys, "argv", ["callsieve", "features", "--list"])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert capsys.readouterr().err.count("\n") == 1


def test_the_configuration_file_uses_the_long_names_of_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / FILE).write_text('[score]\nfeatures = "x"\n')
    with pytest.raises(ValueError, match=r"score\.features: expected one of"):
        configuration(COMMAND)
    (tmp_path / FILE).write_text('[features]\nfeatures = "x"\n[audit.verify]\nwitness-key = "w"\n')
    assert configuration(COMMAND) == {"features": {"only": "x"}, "audit": {"verify": {"witness_key": "w"}}}
    (tmp_path / FILE).write_text('tracking-uri = "u"\naudit = "log"\n')
    assert configuration(COMMAND) == {"tracking_uri": "u", "audit_log": "log"}


def test_the_shell_completes_commands():
    variables = {"_CALLSIEVE_COMPLETE": "complete_bash", "COMP_WORDS": "callsieve sc", "COMP_CWORD": "1"}
    script = "import sys; sys.argv = ['callsieve']; from callsieve.training.cli.command_table import main; main()"
    command, env = [sys.executable, "-c", script], os.environ | variables
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["score"]


def test_an_interrupt_that_python_drops_ends_the_next_step(monkeypatch):
    class Dying:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    errors = []
    monkeypatch.setattr(sys, "unraisablehook", errors.append)
    with pytest.raises(KeyboardInterrupt), console.progress("work") as progress:
        progress("begin", 0.0)
        Dying()
        assert [error.exc_type for error in errors] == [KeyboardInterrupt]
        progress("go on", 0.5)
    with console.progress("work") as progress:
        progress("begin", 0.0)


def test_ctrl_c_during_an_import_stays_an_interrupt():
    """Ctrl-C in the middle of an import raises ImportError."""
    with pytest.raises(KeyboardInterrupt) as ended, console.progress("work"):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("a part is missing") from None
    assert isinstance(ended.value.__cause__, ImportError)
    with pytest.raises(ImportError, match="gone"), console.progress("work"):
        raise ImportError("gone")


def test_progress_shows_rate_and_remaining_time(monkeypatch):
    screen = Console(force_terminal=True, no_color=True, width=120, file=io.StringIO())
    monkeypatch.setattr(console, "ERR", screen)
    with console.progress("work") as progress:
        for step in range(4):
            progress("begin", step / 8)
            time.sleep(0.15)
    output = re.sub(r"\x1b\[[\d;?]*\w", "", screen.file.getvalue())
    assert re.search(r"work: begin .* 38% [1-9]\d* %/min 0:00:0\d 0:00:0\d", output)


# Commands that return at once, run until they are stopped, or read one file or store line by line.
WITHOUT_PROGRESS = {
    "audit attempts", "audit checkpoint", "audit erase", "audit note", "audit page", "audit prove", "audit show",
    "cases appeal", "cases decide", "cases exclusions", "cases list", "cases notice", "cases end-clearance",
    "cases replay", "cases serve",
    "cases show", "cases watch", "govern complaints enter", "govern complaints list", "govern complaints status",
    "govern compliance", "govern discredited add", "govern discredited appeal",
    "govern incident drill", "govern incident plant-canaries",
    "govern incident search-canaries", "govern rectification list", "govern rectification order",
    "govern rectification recheck", "govern token-list lookup",
    "govern token-list publish", "live agi", "live api-key", "live consume", "live tap",
    "model approve", "model approver-key",
    "model export", "model sign-gates", "model verify",
    "privacy declaration", "privacy declare",
    "privacy key destroy", "privacy undeclare", "privacy key new", "privacy key rotate", "privacy reidentify",
    "privacy ticket agree", "privacy ticket reidentify", "serve",
}  # fmt: skip


def test_every_long_command_shows_progress():
    shows = lambda command: "console.progress(" in inspect.getsource(command.callback)
    without = {name for name, command in ALL.items() if not shows(command)}
    assert without == WITHOUT_PROGRESS


@pytest.mark.system
def test_every_command_prints_its_help_with_an_example(run_cli):
    for name, command in ALL.items():
        code, out, err = run_cli(*name.split(), "-h")
        assert (code, err) == (0, ""), name
        text = " ".join(out.split())
        assert f"Usage: callsieve {name}" in text, name
        assert "Example: callsieve" in text, name
        assert all(f"--{word}" in text for word in {*options(command), *shared(name)}), name


def test_every_command_refuses_an_unknown_option_with_exit_code_2(run_cli):
    for name in ALL:
        code, out, err = run_cli(*name.split(), "--no-such-option")
        assert (code, out) == (2, ""), name
        assert "--no-such-option" in err, name


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Runs the command in this process on a wide screen; returns exit code, standard output, error output."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*words):
        with pytest.raises(SystemExit) as done:
            COMMAND.main(words, "callsieve")
        return done.value.code or 0, *capsys.readouterr()

    return run


@pytest.mark.system
def test_ctrl_c_leaves_no_partial_file(tmp_path):
    out = tmp_path / "demo"
    words = [sys.executable, "-m", "callsieve.training", "demo", "--size", "tiny", "--seed", "11", "--out", str(out)]
    run = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / "world" / "truth.parquet").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    err = run.communicate(timeout=120)[1]
    assert run.returncode == 130, err
    assert [line for line in err.splitlines() if line.startswith("callsieve:")] == ["callsieve: interrupted"]
    files = [path for path in out.rglob("*") if path.is_file()]
    assert not [path for path in files if path.name.startswith(".")]
    for path in files:
        if path.suffix == ".parquet":
            assert pq.read_table(path).num_rows > 0
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            assert [json.loads(line) for line in path.read_text().splitlines()]
    assert not (out / "bundle").exists() and not (out / "report.html").exists()
