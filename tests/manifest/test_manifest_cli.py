"""`vidaudio manifest` as a user types it."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from vidaudio.cli.manifest import app
from vidaudio.errors import ManifestError
from vidaudio.manifest import clips_from_table, read_manifest

LIST = 'aaaaaaaaaaa,10,"bird chirping, tweeting",test\naaaaaaaaaaa,30,dog,train\nbbbbbbbbbbb,0,dog,train\n'


def run(*arguments) -> str:
    """The output of a command that succeeds."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.output


def refuse(*arguments) -> str:
    """The message of a command that the user has to mend; `vidaudio` prints it and exits with 1."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, ManifestError), result.output
    assert result.exception.exit_code == 1
    return str(result.exception)


def test_a_list_is_read_and_what_was_done_is_said(write, tmp_path):
    output = run("vggsound", write("v.csv", LIST), "-o", tmp_path / "out" / "v.parquet")
    assert "read     3 rows: 3 clips of 2 sources, 0 rows merged" in output
    assert f"wrote    {tmp_path / 'out' / 'v.parquet'}: 3 clips" in output
    assert len(clips_from_table(read_manifest(tmp_path / "out" / "v.parquet"))) == 3


def test_json_says_the_same_for_scripts(write, tmp_path):
    write("media/aaaaaaaaaaa_000010.mp4", "")
    write("media/other.mp4", "")
    done = json.loads(
        run(
            "vggsound", write("v.csv", LIST + "bad\n"), "-o", tmp_path / "v.parquet", "--media", tmp_path / "media",
            "--skip-bad-rows", "--json",
        )
    )  # fmt: skip
    assert (done["rows"], done["clips"], done["sources"], done["merged"], done["written"]) == (4, 3, 2, 0, 1)
    assert done["skipped"] == [f"{tmp_path / 'v.csv'}:4: " + done["skipped"][0].split(": ", 1)[1]]
    assert done["media"] == {"matched": 1, "cuts": 1, "whole": 0, "missing": 2, "copies": 0, "unlisted": 1}


def test_media_are_joined_and_reported(write, tmp_path):
    write("media/aaaaaaaaaaa.mp4", "")
    out, report = tmp_path / "v.parquet", tmp_path / "report.csv"
    media = ("--media", tmp_path / "media")
    output = run("vggsound", write("v.csv", LIST), "-o", out, *media, "--report", report)
    assert "2 matched (0 cuts, 2 whole videos), 1 missing, 0 files unlisted, 0 further copies" in output
    assert "missing,bbbbbbbbbbb_000000," in report.read_text()
    run("vggsound", write("v.csv", LIST), "-o", out, *media, "--keep-missing")
    assert [clip.url.split("/")[-1] for clip in clips_from_table(read_manifest(out))] == [
        "aaaaaaaaaaa.mp4",
        "aaaaaaaaaaa.mp4",
        "watch?v=bbbbbbbbbbb",
    ]


def test_media_may_be_a_template(write, tmp_path):
    out = tmp_path / "v.parquet"
    run("vggsound", write("v.csv", LIST), "-o", out, "--media", "https://host.example/{id}_{start:06d}.mp4")
    first = clips_from_table(read_manifest(out))[0]
    assert (first.url, first.media_start_seconds) == ("https://host.example/aaaaaaaaaaa_000010.mp4", 10.0)


def test_malformed_rows_stop_the_command_and_write_nothing_unless_skipped(write, tmp_path):
    path, out = write("v.csv", LIST + "short,1,dog,train\n"), tmp_path / "v.parquet"
    assert f"{path}:4: 'short' is not a YouTube id" in refuse("vggsound", path, "-o", out)
    assert not out.exists()
    output = run("vggsound", path, "-o", out, "--skip-bad-rows")
    assert "skipped  1 malformed row:" in output
    assert f"{path}:4: 'short' is not a YouTube id" in output


def test_the_list_itself_is_never_overwritten(write):
    path = write("v.csv", LIST)
    assert "which would be overwritten" in refuse("vggsound", path, "-o", path)
    assert path.read_text() == LIST


def test_every_format_has_its_command(write, tmp_path):
    write("class_labels_indices.csv", "index,mid,display_name\n0,/m/1,Speech\n")
    write("videos/dog/1.mp4", "")
    commands = {
        "music": [write("m.json", '{"videos": {"flute": ["aaaaaaaaaaa"]}}')],
        "audiocaps": [write("val.csv", "youtube_id,start_time,caption\naaaaaaaaaaa,1,Rain\n")],
        "audioset": [write("eval.csv", '#\n#\n#\naaaaaaaaaaa, 1.5, 9.0, "/m/1"\n')],
        "clipsep": [write("test.csv", "x/a/a/aaaaaaaaaaa.wav,x,12,dog\n"), "--starts-from", write("v.csv", LIST)],
        "table": [write("t.csv", "link,kind\nhttps://h/1,dog|cat\n"), "--column", "url=link", "--column", "label=kind",
                  "--label-separator", "|"],
        "folder": [tmp_path / "videos", "--label-from", "parent"],
    }  # fmt: skip
    for command, arguments in commands.items():
        out = tmp_path / f"{command}.parquet"
        run(command, *arguments, "-o", out)
        assert len(read_manifest(out)) == 1, command
    assert clips_from_table(read_manifest(tmp_path / "table.parquet"))[0].labels == ("dog", "cat")
    assert clips_from_table(read_manifest(tmp_path / "folder.parquet"))[0].labels == ("dog",)


def test_notes_are_printed(write, tmp_path):
    output = run("clipsep", write("test.csv", "x/a/a/aaaaaaaaaaa.wav,x,12,dog\n"), "-o", tmp_path / "c.parquet")
    assert "note     1 rows name a video without saying where it is cut" in output


def test_show_counts_and_prints_the_first_rows(write, tmp_path):
    out = tmp_path / "v.parquet"
    run("vggsound", write("v.csv", LIST), "-o", out)
    output = run("show", out, "--rows", "1")
    assert "clips     3 of 2 sources, 0 in local files" in output
    assert "splits    train 2, test 1" in output
    assert "labels    2: dog 2, bird chirping, tweeting 1" in output
    assert "aaaaaaaaaaa_000010  10-20 s  test" in output
    assert "bbbbbbbbbbb_000000" not in output
    assert json.loads(run("show", out, "--json"))["clips"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["vggsound", "none.csv", "-o", "x.parquet"], "there is no list at none.csv"),
        (["show", "none.parquet"], "there is no manifest at none.parquet"),
        (["folder", "none", "-o", "x.parquet"], "there is no folder"),
        (["table", "none.csv", "-o", "x.parquet", "--column", "url"], "not of the form FIELD=COLUMN"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(arguments, words):
    assert words in refuse(*arguments)


def test_a_report_without_a_folder_is_refused(write, tmp_path):
    path = write("v.csv", LIST)
    assert "--media DIR" in refuse("vggsound", path, "-o", tmp_path / "o", "--report", tmp_path / "r.csv")
    assert "--media DIR" in refuse("vggsound", path, "-o", tmp_path / "o", "--keep-missing")


def test_the_command_line_loads_no_heavy_module_before_it_is_used():
    code = (
        "import sys, vidaudio.cli.manifest; "
        "print(sorted({'torch', 'pyarrow', 'pandas', 'numpy', 'yaml', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
