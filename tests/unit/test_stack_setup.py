"""Setting up: what decides whether anything is to be done, and what a person is told."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond_cli.setup import environments, set_up
from millpond_cli.setup.commands import Commands
from millpond_cli.setup.environments import PACKAGE_FOLDERS, STAMP, UNFINISHED, Environment, uv_settings
from millpond_cli.setup.errors import Missing, SetupError
from millpond_cli.setup.home import REPOSITORY, Home, home
from millpond_cli.setup.lock import alone
from millpond_cli.setup.pieces import Piece
from millpond_cli.setup.prerequisites import parse_go_version, parse_java_version
from millpond_cli.setup.stamp import digest, is_current, write

REQUIREMENTS = REPOSITORY / "requirements"


def test_a_stamp_is_current_until_a_name_or_a_byte_changes(tmp_path: Path) -> None:
    list_, stamp = tmp_path / "list.txt", tmp_path / "stamp"
    list_.write_text("a==1\n")
    assert not is_current(stamp, digest("r", [list_]))
    write(stamp, digest("r", [list_]))
    assert is_current(stamp, digest("r", [list_]))
    assert not is_current(stamp, digest("other", [list_]))
    list_.write_text("a==2\n")
    assert not is_current(stamp, digest("r", [list_]))


@given(contents=st.lists(st.binary(max_size=4), min_size=2, max_size=2, unique=True))
def test_where_one_file_ends_and_the_next_begins_counts(
    contents: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("stamp")
    files = folder / "a", folder / "b"

    def written(*both: bytes) -> str:
        for file, content in zip(files, both, strict=True):
            file.write_bytes(content)
        return digest("", files)

    first, second = contents
    assert written(first, second) != written(second, first)


def test_an_environment_without_its_stamp_is_not_ready(tmp_path: Path) -> None:
    environment = environments.workspace(Home(tmp_path))
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to(sys.executable)
    assert not environment.is_ready
    write(environment.folder / STAMP, environment.made_from)
    assert environment.is_ready
    environment.python.unlink()
    environment.python.symlink_to(tmp_path / "a-python-that-was-removed")
    assert not environment.is_ready


def test_an_interrupted_environment_is_made_anew_and_a_finished_one_is_kept(tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("")
    environment = Environment(tmp_path / "env", [tmp_path / "none.txt"], imports=[tmp_path / "packages"])
    lines: list[str] = []
    environments.make(environment, None, Commands(), lines.append)
    assert environment.is_ready
    assert lines == ["installing 0 packages"]
    shown = subprocess.check_output([environment.python, "-c", "import sys; print(sys.path)"], text=True)
    (tmp_path / "packages").mkdir()
    shown = subprocess.check_output([environment.python, "-c", "import sys; print(sys.path)"], text=True)
    assert str(tmp_path / "packages") in shown

    (environment.folder / "kept").touch()
    (tmp_path / "none.txt").write_text("# changed\n")
    environments.make(environment, None, Commands(), lines.append)
    assert (environment.folder / "kept").exists()

    (environment.folder / UNFINISHED).touch()
    environments.make(environment, None, Commands(), lines.append)
    assert not (environment.folder / "kept").exists()
    assert "making it anew" in lines[-2]
    assert environment.is_ready


def test_every_requirement_is_pinned_by_hash_and_no_list_names_an_address() -> None:
    for path in REQUIREMENTS.glob("*.txt"):
        text = path.read_text()
        assert "://" not in text, path.name
        requirements = text.replace("\\\n", " ").splitlines()
        for line in requirements:
            if line[:1].isalnum():
                assert "--hash=sha256:" in line, f"{path.name}: {line[:60]}"


def test_every_package_folder_is_imported_from() -> None:
    folders = {path.parent.parent for path in REPOSITORY.glob("services/*/millpond_*/__init__.py")}
    assert {str(folder.relative_to(REPOSITORY)) for folder in folders} <= set(PACKAGE_FOLDERS)


def test_uv_connects_as_pip_would() -> None:
    pip = "\n".join(
        [
            "global.cert='/global.pem'",
            "install.cert='/install.pem'",
            ":env:.trusted-host='one\\ntwo'",
            "global.trusted-host='three'",
            "global.timeout='60'",
            "global.no-color='true'",
            "freeze.timeout='1'",
        ]
    )
    assert uv_settings(pip, {"HOME": "/h"}) == {
        "SSL_CERT_FILE": "/install.pem",
        "UV_INSECURE_HOST": "one two",
        "UV_HTTP_TIMEOUT": "60",
        "HOME": "/h",
    }


@pytest.mark.parametrize("section", ["global", "install", ":env:"])
def test_an_index_that_only_pip_was_told_of_is_left_to_pip(section: str) -> None:
    assert uv_settings(f"{section}.no-index='true'", {}) is None
    assert uv_settings(f"{section}.no-index='true'", {"UV_NO_INDEX": "1"}) == {"UV_NO_INDEX": "1"}
    assert uv_settings("download.no-index='true'", {}) == {}


def test_what_the_person_set_for_uv_stays() -> None:
    given_ = {"SSL_CERT_FILE": "/own.pem"}
    assert uv_settings("global.cert='/pip.pem'", given_) == given_


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "21"', 21),
        ("", None),
    ],
)
def test_javas_version(output: str, version: int | None) -> None:
    assert parse_java_version(output) == version


@pytest.mark.parametrize(
    ("output", "version"), [("go version go1.26.8 linux/amd64", (1, 26)), ("go version go1.9", (1, 9)), ("", None)]
)
def test_gos_version(output: str, version: tuple[int, int] | None) -> None:
    assert parse_go_version(output) == version


def test_a_failed_command_keeps_its_last_words() -> None:
    finished = Commands().run([sys.executable, "-c", "print('a'); raise SystemExit('the reason')"])
    assert finished.code == 1
    assert finished.last_line == "the reason"
    assert finished.tail == "    a\n    the reason"


def test_a_command_that_is_not_there_is_said_so() -> None:
    finished = Commands().run(["/no/such"])
    assert (finished.code, finished.last_line) == (1, "/no/such: No such file or directory")


def test_ending_ends_what_runs_and_lets_nothing_begin() -> None:
    commands, running = Commands(), threading.Event()
    forever = [sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"]
    raised: list[SetupError] = []

    def run() -> None:
        try:
            commands.run(forever, each_line=lambda _: running.set())
        except SetupError as failure:
            raised.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    assert running.wait(30)
    commands.end()
    thread.join(30)
    assert [str(failure) for failure in raised] == ["interrupted"]
    with pytest.raises(SetupError, match="interrupted"):
        commands.run(forever)


def test_pieces_are_made_after_what_they_need_and_not_twice(tmp_path: Path) -> None:
    made: list[str] = []

    def piece(name: str, *needs: str) -> Piece:
        return Piece(name, lambda _: name in made, lambda _home, _commands, _say: made.append(name), needs=needs)

    pieces = [piece("a"), piece("b", "a"), piece("c", "b")]
    lines: list[tuple[str, str]] = []
    set_up.set_up(Home(tmp_path), pieces, lambda name, text: lines.append((name, text)))
    assert made == ["a", "b", "c"]
    assert [name for name, _ in lines] == ["a", "b", "c"]
    set_up.set_up(Home(tmp_path), pieces, lambda name, text: lines.append((name, text)))
    assert made == ["a", "b", "c"]


def test_a_piece_that_fails_fails_the_set_up_and_what_needs_it_is_not_made(tmp_path: Path) -> None:
    def fail(_home: Home, _commands: Commands, _say: environments.Say) -> None:
        raise SetupError("no network")

    made: list[str] = []
    pieces = [
        Piece("a", lambda _: False, fail),
        Piece("b", lambda _: False, lambda _home, _commands, _say: made.append("b"), needs=("a",)),
    ]
    with pytest.raises(SetupError, match="no network"):
        set_up.set_up(Home(tmp_path), pieces, lambda _name, _text: None)
    assert made == []


def test_a_missing_program_is_named_before_anything_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    begun: list[str] = []
    piece = Piece(
        "kafka",
        lambda _: False,
        lambda _home, _commands, _say: begun.append("kafka"),
        programs_to_make=("mvn",),
        programs_to_run=("java",),
    )
    with pytest.raises(Missing, match=r"^missing: Java 17 or newer .*; Maven.*$") as failure:
        set_up.set_up(Home(tmp_path), [piece], lambda _name, _text: None)
    assert failure.value.exit_code == 2
    assert begun == []
    said: list[str] = []
    with pytest.raises(Missing), set_up.ready(Home(tmp_path), lambda name, _: said.append(name), [piece]):
        pass
    assert said == []


HOLD = """
import sys
from pathlib import Path
from millpond_cli.setup.lock import alone
with alone(Path(sys.argv[1]), lambda: print("waiting", flush=True)):
    print("inside", flush=True)
"""


def test_two_at_once_are_inside_one_after_the_other(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "cli")}
    with alone(lock, lambda: pytest.fail("nobody else is inside")):
        other = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(lock)], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "waiting\n"
    assert other.communicate(timeout=30)[0] == "inside\n"


def test_the_home_is_beside_the_script_or_where_it_was_put() -> None:
    assert home({}).root == REPOSITORY / ".millpond"
    assert home({"MILLPOND_HOME": "/elsewhere"}).root == Path("/elsewhere")


def test_what_the_script_imports_needs_no_environment() -> None:
    imports = f"import sys; sys.path.insert(0, {str(REPOSITORY / 'cli')!r}); import millpond_cli.setup.workspace"
    subprocess.run([sys.executable, "-I", "-S", "-c", imports], check=True)


def test_a_python_that_is_too_old_gets_one_line() -> None:
    script = (REPOSITORY / "millpond").read_text()
    # What an old Python must be able to read at all: no syntax that came with a later one.
    compile(script, "millpond", "exec")
    without_any = script.replace("OLDEST, NEWEST = (3, 11), (3, 12)", "OLDEST, NEWEST = (3, 98), (3, 99)")
    finished = subprocess.run(
        [sys.executable, "-c", without_any.replace("os.path.realpath(__file__)", "'.'")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1
    assert len(finished.stderr.splitlines()) == 1
    assert "install python3.12" in finished.stderr
