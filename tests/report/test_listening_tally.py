"""The tally: numbers by hand, answers that are not believed, tables in the papers' shape."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.listening_world import make_systems, write_items
from vidaudio.cli import main
from vidaudio.report.listening import Key, Kind, tally
from vidaudio.report.listening.agreement import krippendorff_alpha
from vidaudio.report.listening.items import ListeningError
from vidaudio.report.listening.scores import markdown, write_csv
from vidaudio.report.listening.study import KeyTrial

PAGE = "0" * 64


def write_key(folder: Path, kind: Kind, trials: dict[str, KeyTrial]) -> Path:
    questions = ["which"] if kind is Kind.WHICH else ["fidelity", "relevance"]
    systems = list(dict.fromkeys(trial.system for trial in trials.values()))
    key = Key(page=PAGE, kind=kind, seed=1, level="as-is", systems=systems, questions=questions, trials=trials)
    path = folder / "page.key.json"
    path.write_text(key.model_dump_json())
    return path


def answers_of(participant: str, values: dict[str, dict[str, Any]], **changed: Any) -> dict[str, Any]:
    return {
        "format": "vidaudio-listening-answers/1",
        "page": PAGE,
        "participant": participant,
        "started": "2024-05-01T10:00:00.000Z",
        "finished": "2024-05-01T10:20:00.000Z",
        "saved": "2024-05-01T10:20:01.000Z",
        "order": list(values),
        "answers": [{"trial": name, "values": said, "plays": 1, "seconds": 3.5} for name, said in values.items()],
    } | changed


def write_answers(folder: Path, *files: dict[str, Any]) -> list[Path]:
    paths = []
    for number, contents in enumerate(files):
        paths.append(folder / f"answers-{number}.json")
        paths[-1].write_text(json.dumps(contents))
    return paths


@pytest.fixture
def which_key(tmp_path: Path) -> Path:
    trials = {
        "t1": KeyTrial(system="near", item="one", target="first"),
        "t2": KeyTrial(system="near", item="two", target="second"),
        "t3": KeyTrial(system="far", item="one", target="second"),
        "t4": KeyTrial(system="far", item="two", target="first"),
    }
    return write_key(tmp_path, Kind.WHICH, trials)


def said(**choices: str) -> dict[str, dict[str, str]]:
    return {name: {"which": choice} for name, choice in choices.items()}


@pytest.fixture
def mos_key(tmp_path: Path) -> Path:
    trials = {
        f"{system}-{item}": KeyTrial(system=system, item=item, group=group)
        for system in ("ours", "theirs")
        for item, group in (("one", "VGG"), ("two", "VGG"), ("three", "MUSIC"))
    }
    return write_key(tmp_path, Kind.MOS, trials)


def rated(offset: int = 0) -> dict[str, dict[str, int]]:
    fidelity = {"ours-one": 4, "ours-two": 2, "ours-three": 3, "theirs-one": 2, "theirs-two": 1, "theirs-three": 2}
    return {name: {"fidelity": value + offset, "relevance": 5 - value} for name, value in fidelity.items()}


def test_choices_become_correct_wrong_both_and_none_by_the_side_of_the_target(which_key: Path, tmp_path: Path):
    paths = write_answers(
        tmp_path,
        answers_of("a", said(t1="first", t2="first", t3="both", t4="none")),
        answers_of("b", said(t1="first", t2="second", t3="first", t4="none")),
    )
    result = tally(paths, which_key)
    assert {(s.system, s.measure): (s.mean, s.answers, s.listeners) for s in result.scores} == {
        ("near", "correct"): (0.75, 4, 2),
        ("near", "wrong"): (0.25, 4, 2),
        ("near", "both"): (0, 4, 2),
        ("near", "none"): (0, 4, 2),
        ("far", "correct"): (0, 4, 2),
        ("far", "wrong"): (0.25, 4, 2),
        ("far", "both"): (0.25, 4, 2),
        ("far", "none"): (0.5, 4, 2),
    }
    near = next(s for s in result.scores if (s.system, s.measure) == ("near", "correct"))
    # 1, 0, 1, 1 about 0.75 with n - 1, over the root of 4; listeners' own 0.5 and 1.
    assert near.standard_error == pytest.approx(0.25)
    assert near.listener_standard_error == pytest.approx(0.25)
    assert str(result).splitlines()[:6] == [
        "2 listeners, 4 sounds; mean ± standard error over answers",
        "",
        "| system | correct % | wrong % | both % | none % | answers |",
        "|---|---:|---:|---:|---:|---:|",
        "| near | 75.0 ± 25.0 | 25.0 ± 25.0 | 0.0 ± 0.0 | 0.0 ± 0.0 | 4 |",
        "| far | 0.0 ± 0.0 | 25.0 ± 25.0 | 25.0 ± 25.0 | 50.0 ± 28.9 | 4 |",
    ]


def test_ratings_are_averaged_by_group_with_both_standard_errors(mos_key: Path, tmp_path: Path):
    result = tally(write_answers(tmp_path, answers_of("a", rated()), answers_of("b", rated(1))), mos_key)
    found = {(s.system, s.group, s.measure): s for s in result.scores}
    ours = found["ours", "VGG", "fidelity"]
    assert ours.mean == pytest.approx(3.5)  # 4, 2 and 5, 3
    assert ours.standard_error == pytest.approx(np.sqrt(5 / 3) / 2)
    assert ours.listener_standard_error == pytest.approx(0.5)  # 3 and 4
    assert found["theirs", "MUSIC", "relevance"].mean == pytest.approx(3)
    table = str(result)
    assert "| system | MUSIC fidelity | MUSIC relevance | VGG fidelity | VGG relevance | answers |" in table
    assert "| ours | 3.50 ± 0.50 | 2.00 ± 0.00 | 3.50 ± 0.65 | 2.00 ± 0.58 | 6 |" in table
    assert result.agreement["relevance"] == pytest.approx(1)
    assert result.agreement["fidelity"] < 1


def test_one_listener_alone_has_no_error_between_listeners(mos_key: Path, tmp_path: Path):
    result = tally(write_answers(tmp_path, answers_of("a", rated())), mos_key)
    assert all(score.listener_standard_error is None for score in result.scores)
    assert "over listeners" not in str(result)
    assert "1 listener, 6 sounds" in str(result)
    assert "fidelity not defined" in str(result)


def test_the_latest_file_of_a_listener_counts_and_the_others_are_said(which_key: Path, tmp_path: Path):
    good, bad = said(t1="first", t2="second", t3="second", t4="first"), said(t1="none", t2="none", t3="none", t4="none")
    paths = write_answers(
        tmp_path,
        # 12:00 in Berlin is before 10:20 in Greenwich.
        answers_of("a", bad, saved="2024-05-01T12:00:00+02:00"),
        answers_of("a", good),
        answers_of("a", bad, saved="2024-05-01T09:00:00Z"),
    )
    result = tally(paths, which_key)
    assert result.listeners == 1
    assert {s.mean for s in result.scores if s.measure == "correct"} == {1.0}
    assert len(result.notes) == 2
    assert f"{paths[0]} left out: a saved a later one." in result.notes
    assert result.scores == tally(paths[::-1], which_key).scores


def test_unfinished_answers_count_and_are_said_or_are_left_out(which_key: Path, tmp_path: Path):
    whole = answers_of("a", said(t1="first", t2="second", t3="second", t4="first"))
    part = answers_of("b", said(t1="none"), finished=None)
    paths = write_answers(tmp_path, whole, part)
    result = tally(paths, which_key)
    assert result.notes == [f"{paths[1]}: b answered 1 of 4 sounds."]
    assert next(s for s in result.scores if (s.system, s.measure) == ("near", "none")).mean == pytest.approx(1 / 3)
    only = tally(paths, which_key, complete_only=True)
    assert only.listeners == 1
    assert only.notes == [f"{paths[1]}: b answered 1 of 4 sounds, left out."]
    with pytest.raises(ListeningError, match="no listener answered anything"):
        tally(paths[1:], which_key, complete_only=True)


@pytest.mark.parametrize("complete_only", [False, True])
def test_a_complete_file_counts_before_a_later_one_that_is_not(which_key: Path, tmp_path: Path, complete_only: bool):
    whole = answers_of("a", said(t1="first", t2="second", t3="second", t4="first"))
    begun_again = answers_of("a", said(t1="none"), finished=None, saved="2024-05-02T09:00:00Z")
    paths = write_answers(tmp_path, whole, begun_again)
    result = tally(paths, which_key, complete_only=complete_only)
    assert result.listeners == 1
    assert {(s.mean, s.answers) for s in result.scores if s.measure == "correct"} == {(1.0, 2)}
    assert result.notes == [
        f"{paths[1]}: a answered 1 of 4 sounds, left out."
        if complete_only
        else f"{paths[1]} left out: a saved a complete one."
    ]


def test_listeners_of_unequal_diligence_count_alike_beside_the_error_between_them(which_key: Path, tmp_path: Path):
    """The mean over answers is not the mean that the error between listeners is of; each has its table."""
    paths = write_answers(
        tmp_path,
        answers_of("a", said(t1="first", t2="second", t3="second", t4="first")),
        answers_of("b", said(t1="none"), finished=None),
    )
    result = tally(paths, which_key)
    near = next(s for s in result.scores if (s.system, s.measure) == ("near", "correct"))
    assert (near.mean, near.listener_mean) == (pytest.approx(2 / 3), pytest.approx(0.5))
    first, second = [line for line in str(result).splitlines() if line.startswith("| near |")]
    assert first.startswith("| near | 66.7 ± 33.3 |")
    assert second.startswith("| near | 50.0 ± 50.0 |")
    assert "mean ± standard error over listeners' own means" in str(result)


def test_a_folder_of_answers_may_hold_the_key(which_key: Path, tmp_path: Path):
    write_answers(tmp_path, answers_of("a", said(t1="first")))
    assert tally([tmp_path], which_key).listeners == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"page": "1" * 64}, r"answers another page \(11111111...\) than the key opens \(00000000...\)"),
        ({"format": "other/1"}, "is no file of answers: format"),
        ({"participant": ""}, "is no file of answers: participant"),
        ({"extra": 1}, "is no file of answers: unknown key extra"),
        ({"saved": "yesterday"}, "is no file of answers: saved"),
        ({"answers": [{"trial": "t9", "values": {"which": "first"}, "plays": 1, "seconds": 1}]}, "knows no sound 't9'"),
        ({"answers": [{"trial": "t1", "values": {"which": "third"}, "plays": 1, "seconds": 1}]}, "which is 'third'"),
        ({"answers": [{"trial": "t1", "values": {"which": 1}, "plays": 1, "seconds": 1}]}, "which is 1; it is one of"),
        ({"answers": [{"trial": "t1", "values": {"fidelity": 5}, "plays": 1, "seconds": 1}]}, "answers to fidelity; "),
        ({"answers": [{"trial": "t1", "values": {"which": "none"}, "plays": 0, "seconds": 1}]}, "answers.0.plays"),
        ({"answers": [{"trial": "t1", "values": {"which": "none"}, "plays": 1, "seconds": 1}] * 2}, "a sound twice"),
    ],
)
def test_what_the_page_cannot_have_written_is_refused(
    which_key: Path, tmp_path: Path, change: dict[str, Any], sentence: str
):
    [path] = write_answers(tmp_path, answers_of("a", said(t1="first")) | change)
    with pytest.raises(ListeningError, match=sentence) as raised:
        tally([path], which_key)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("rating", [0, 6, True, 3.5, "4", None])
def test_a_rating_is_a_whole_number_from_1_to_5(mos_key: Path, tmp_path: Path, rating: object):
    paths = write_answers(tmp_path, answers_of("a", {"ours-one": {"fidelity": rating, "relevance": 3}}))
    with pytest.raises(ListeningError):
        tally(paths, mos_key)


@pytest.mark.parametrize("text", ['{"format": "vidaud', "[]", "\xff"])
def test_a_file_cut_short_is_named(which_key: Path, tmp_path: Path, text: str):
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ListeningError, match=r"x\.json is no file of answers") as raised:
        tally([tmp_path / "x.json"], which_key)
    assert "Input" not in str(raised.value)
    with pytest.raises(ListeningError, match=r"x\.json is no key of a listening test: it is (no JSON|JSON, but)"):
        tally([tmp_path], tmp_path / "x.json")


def test_a_missing_key_missing_answers_and_answers_as_key(which_key: Path, tmp_path: Path):
    [path] = write_answers(tmp_path, answers_of("a", said(t1="first")))
    with pytest.raises(ListeningError, match="there is no key at"):
        tally([path], tmp_path / "none.key.json")
    with pytest.raises(ListeningError, match="is no key of a listening test"):
        tally([which_key], path)
    with pytest.raises(ListeningError, match="there is no file or folder"):
        tally([tmp_path / "gone.json"], which_key)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ListeningError, match="there are no answers"):
        tally([tmp_path / "empty"], which_key)


def test_every_score_is_a_line_of_the_csv(mos_key: Path, tmp_path: Path):
    result = tally(write_answers(tmp_path, answers_of("a", rated())), mos_key)
    write_csv(result, tmp_path / "tables" / "scores.csv")
    with (tmp_path / "tables" / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.scores) == 2 * 2 * 2
    assert [float(row["mean"]) for row in rows] == [score.mean for score in result.scores]
    assert {row["listener_standard_error"] for row in rows} == {""}


def test_a_bar_in_a_systems_name_makes_no_column(tmp_path: Path):
    key = write_key(tmp_path, Kind.WHICH, {"t1": KeyTrial(system="a|b\nc", item="one", target="first")})
    result = tally(write_answers(tmp_path, answers_of("a", said(t1="first"))), key)
    assert "| a\\|b c | 100.0 | 0.0 | 0.0 | 0.0 | 1 |" in markdown(result)


def test_alpha_is_krippendorffs_own_example():
    """Krippendorff 2011, section C and E: four observers, twelve units, missing data; 0.743 nominal, 0.849 interval."""
    n = np.nan
    data = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, n, n, n],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, n, 3],
            [n, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, n],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, n],
        ]
    )
    assert krippendorff_alpha(data, nominal=True) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(data, nominal=False) == pytest.approx(0.849, abs=5e-4)
    assert krippendorff_alpha(data[:1], nominal=True) is None
    assert krippendorff_alpha(np.ones((3, 4)), nominal=False) is None
    rng = np.random.default_rng(0)
    assert krippendorff_alpha(rng.integers(1, 6, (4, 4000)).astype(float), nominal=False) == pytest.approx(0, abs=0.03)


# ---- the command


def run(*arguments: object) -> None:
    sys.argv = ["vidaudio", "listening-test", *map(str, arguments)]
    main()


@pytest.fixture(autouse=True)
def _own_arguments(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["vidaudio"])


def test_the_command_makes_a_page_and_sums_up_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    systems = make_systems(tmp_path, ["a", "b"], ["one"])
    items = write_items(tmp_path / "items.csv", [{"item": "one", "target": "violin", "other": "cello"}])
    given = [f"{name}={folder}" for name, folder in systems.items()]
    with pytest.raises(SystemExit, match="0"):
        run(*given, "--items", items, "--seed", 4, "--level", "rms", "-o", tmp_path / "page.html", "--json")
    made = json.loads(capsys.readouterr().out)
    assert (made["items"], made["trials"]) == (1, 2)
    key = Key.model_validate_json(Path(made["key"]).read_bytes())
    assert (key.seed, key.level, key.systems) == (4, "rms", ["a", "b"])
    [path] = write_answers(tmp_path, answers_of("x", {n: {"which": "both"} for n in key.trials}, page=key.page))
    with pytest.raises(SystemExit, match="0"):
        run("--tally", path, "--key", made["key"], "--csv", tmp_path / "scores.csv")
    assert "| a | 0.0 | 0.0 | 100.0 | 0.0 | 1 |" in capsys.readouterr().out
    assert (tmp_path / "scores.csv").is_file()
    with pytest.raises(SystemExit, match="0"):
        run("--tally", path, "--key", made["key"], "--json")
    assert json.loads(capsys.readouterr().out)["listeners"] == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a"], "--output"),
        (["a", "-o", "p.html"], "SYSTEM=FOLDER"),
        (["a=x", "a=y", "-o", "p.html"], "given twice"),
        (["a=x", "-o", "p.html", "--key", "k"], "belong to --tally"),
        (["--tally", "x.json"], "needs --key"),
        (["--tally", "x.json", "--key", "k", "-o", "p.html"], "belongs to"),
        ([], "Missing argument"),
    ],
)
def test_a_wrong_call_is_explained(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        run(*arguments)
    assert sentence in capsys.readouterr().err


def test_a_mistake_is_one_line_and_no_traceback(tmp_path: Path):
    command = [sys.executable, "-m", "vidaudio", "listening-test", "a=nowhere", "-o", str(tmp_path / "p.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: there is no folder nowhere: give each system as NAME=FOLDER.\n"
