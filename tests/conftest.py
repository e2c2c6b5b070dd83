"""Fixed draws for every property; a tiny world and one whole training on it, made once for all tests that need them."""

import io
import json
import shutil
import sys
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from callsieve.features import Intake, Key
from callsieve.training import Settings, of_world
from callsieve.training.judging.baselines import baseline_scores
from callsieve.training.model.train import train
from callsieve.training.oversight.log import looks
from callsieve.training.oversight.log.key_folder import VARIABLE, key_path
from callsieve.training.oversight.log.run_paths import default_store
from callsieve.training.tracking import mlflow_read, mlflow_write
from callsieve.training.world import keyed_world, load_scenario, simulate, write_world
from tests.support import http_service, live_states
from tests.support.debian import MISSING

# Draws are fixed, so that a failure is everybody's. To look for new ones: pytest --hypothesis-profile=explore
settings.register_profile("fixed", derandomize=True, print_blob=True, deadline=None)
settings.register_profile("explore", derandomize=False, print_blob=True, deadline=None)
# For mutants (tests/tools/teeth.py): a failure is enough, no smaller example is searched.
settings.register_profile("unshrunk", settings.get_profile("fixed"), phases=(Phase.explicit, Phase.generate))
settings.load_profile("fixed")

# A world of 180 subscribers has few labels: of this one, both kinds fall into each fold that needs them.
# It was chosen by looking (AUC over seeds 1-12: 0.36 to 1.0): tests on it say nothing of the quality of a model.
SEED = 11

SYSTEM = Path(__file__).parent / "system"
# A test that asks for one of these starts a process or a whole training.
SYSTEM_FIXTURES = {"training_run", "trained", "by_baselines", "service"}


def pytest_collection_modifyitems(items):
    """Marks `system` what the quick loop leaves out: pytest -m "not system". Files with such tests run first.

    Those files take longest. At the end, short files keep all processes of pytest-xdist busy.
    """
    for item in items:
        if SYSTEM in item.path.parents or SYSTEM_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("system")
    long = {item.path for item in items if item.get_closest_marker("system")}
    items.sort(key=lambda item: (item.path not in long, SYSTEM not in item.path.parents))


def pytest_terminal_summary(terminalreporter):
    """Prints one line for each program that is missing."""
    skipped = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    for reason, count in skipped.items():
        if MISSING in reason:
            terminalreporter.write_line(f"{count} {reason}")


@pytest.fixture(scope="session", autouse=True)
def tracking_store(tmp_path_factory):
    """The store that MLflow is set to; neither it nor the key folder is the user's own."""
    with pytest.MonkeyPatch.context() as patched:
        store = tmp_path_factory.getbasetemp() / "mlruns.db"
        patched.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
        patched.setenv(VARIABLE, str(tmp_path_factory.getbasetemp() / "keys"))
        yield store


@pytest.fixture(scope="session", autouse=True)
def copied_stores(tmp_path_factory):
    """MLflow databases after the first one are copies of it: making one takes seconds, copying it none.

    Yields the function that makes one.
    """
    make, made = mlflow_write.new_store, tmp_path_factory.getbasetemp() / "empty.db"

    def copy(folder):
        if not made.exists():
            shutil.copy(make(folder), made)
        return shutil.copy(made, folder / "copy.db")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mlflow_write, "new_store", copy)
        yield make


@pytest.fixture(scope="session")
def written_world():
    """With numbers as they are written."""
    return simulate(load_scenario(), SEED, "tiny")


@pytest.fixture(scope="session")
def world(written_world):
    return keyed_world(written_world, Intake(Key("e1", b"k" * 32)))


@pytest.fixture(scope="session")
def dataset(world):
    return of_world(world)


@pytest.fixture(scope="session")
def world_folder(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(world, folder)
    return folder


@pytest.fixture(scope="session")
def training_run(world_folder, tmp_path_factory):
    """Folder and figures of a whole training by the command, on one thread."""
    folder = tmp_path_factory.mktemp("run")
    (world_folder / looks.FILE).unlink(missing_ok=True)  # looks of other tests do not count
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(io.StringIO()) as out:
        words = ("train", "--data", world_folder, "--out", folder, "--tracking-uri", default_store(folder))
        assert command(patched, *words, "--threads", 1, "--json") == 0
    return folder, json.loads(out.getvalue())


@pytest.fixture(scope="session")
def run_key(training_run):
    """File of the private key that signs that training and its audit log."""
    return key_path(training_run[0], training_run[0] / "audit")


@pytest.fixture(scope="session")
def trained(dataset):
    """The training of `training_run` once more, by the library, on two threads."""
    return train(dataset, Settings(threads=2))


@pytest.fixture(scope="session")
def by_baselines(trained):
    """Figures of the baselines of that training: fitting them takes longer than all the rest of judging."""
    return baseline_scores(trained)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An MLflow database without a run: making one takes seconds, copying it none."""
    folder = tmp_path_factory.mktemp("store")
    mlflow_read.registry(default_store(folder))
    return folder / "mlflow.db"


@pytest.fixture(scope="module")
def service_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def keys(service_folder):
    """The key of each scope of a service of that folder, whose other files are written too."""
    return http_service.write_service_files(service_folder)


@pytest.fixture(scope="module")
def service(service_folder, keys):
    """A service in a process of its own, whose state is thrown away; it outlives all that tests ask of it."""
    assert keys
    with http_service.ServiceProcess(service_folder) as service:
        yield service
        assert service.process.poll() is None
        assert "Traceback" not in service.log_text()


@pytest.fixture(scope="module")
def blocking_bundle(service_folder, keys):
    """The bundle of that folder under a policy that blocks."""
    assert keys
    return live_states.loaded(service_folder / "bundle", policy=http_service.STRICT_POLICY)


@pytest.fixture
def make_service(service_folder, blocking_bundle, tmp_path):
    """Makes a service in this process."""

    def make(**options):
        begin = lambda: live_states.begin(blocking_bundle, tmp_path / "state", **options)
        return http_service.ServiceThread(service_folder, begin, blocking_bundle)

    return make


@pytest.fixture
def run_command(monkeypatch, capsys):
    """Run the command in this process: exit code, standard output, error output."""

    def run(*words, stdin=None):
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        return (command(monkeypatch, *words), *capsys.readouterr())

    return run


def command(patched, *words):
    """Exit code of the command, run in this process."""
    from callsieve.training.cli.command_table import main

    patched.setattr(sys, "argv", ["callsieve", *map(str, words)])
    return exit_code(main)


def exit_code(main):
    """Returns the argument of `sys.exit` in a function; 0 without an argument, or without an exit."""
    try:
        main()
    except SystemExit as done:
        return done.code or 0
    return 0


@pytest.fixture
def run_tool(capsys):
    """Runs the main function of a tool of `tests/tools`: exit code, standard output, error output."""

    def run(main, *words):
        code = exit_code(lambda: main([*map(str, words)]))
        output = capsys.readouterr()
        return (1, output.out, f"{code}\n") if isinstance(code, str) else (code, *output)

    return run


@pytest.fixture
def command_error(run_command):
    """The error output of a command that fails: exit code 1 for a fault, 2 for wrong usage, and no other output."""

    def run(*words, code=1, stdin=None):
        *ended, err = run_command(*words, stdin=stdin)
        assert ended == [code, ""]
        assert err.splitlines()[-1].startswith("callsieve: ")
        return err

    return run


@pytest.fixture
def command_text(run_command):
    """The text that a command that succeeds prints."""

    def run(*words):
        code, out, err = run_command(*words)
        assert code == 0, err
        return out

    return run


@pytest.fixture
def command_json(run_command):
    """The JSON object that a command that succeeds prints, and nothing else."""

    def run(*words, stdin=None):
        code, out, err = run_command(*words, "--json", stdin=stdin)
        assert (code, err) == (0, "")
        return json.loads(out)

    return run
