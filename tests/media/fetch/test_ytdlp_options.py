"""What a recipe hands to yt-dlp is looked at before a run, with the nearest names that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media.site.extractor import EXTRACTOR
from vidaudio.config.corpus import load_corpus_recipe
from vidaudio.errors import RecipeError
from vidaudio.manifest import Clip, write_manifest
from vidaudio.media.fetch.source import FetchOptions
from vidaudio.media.fetch.types import OWNED_YTDLP_OPTIONS
from vidaudio.media.fetch.ytdlp import ytdlp_params
from vidaudio.media.fetch.ytdlp_allowed import ALLOWED_YTDLP_OPTIONS
from vidaudio.media.fetch.ytdlp_options import _known_options, check_site_names, check_ytdlp
from vidaudio.pipeline.build import build

MODULE = EXTRACTOR.partition(":")[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ytdlp": {"proxi": "http://h:1"}}, r"yt-dlp has no option proxi \(did you mean proxy"),
        ({"ytdlp": {"cookie_file": "x"}}, r"no option cookie_file \(did you mean cookiefile"),
        ({"ytdlp": {"zzz": 1}}, r"no option zzz \(its names are those of yt_dlp\.YoutubeDL's parameters"),
        ({"ytdlp": {"source_address": 3}}, r"source_address wants text, not 3"),
        ({"ytdlp": {"source_address": "eth0"}}, r"source_address wants an IP address of this machine, not 'eth0'"),
        ({"ytdlp": {"source_address": "192.0.2.7"}}, r"this machine cannot send from 192\.0\.2\.7 \(Cannot assign"),
        ({"ytdlp": {"user_agent": "Mine"}}, r"no option user_agent \(it goes into http_headers, as in \{User-Agent"),
        ({"ytdlp": {"proxy": "localhost:80"}}, r"proxy wants an address such as http://host:8080"),
        ({"ytdlp": {"cookiefile": "/nowhere/c.txt"}}, r"cookiefile: there is no file /nowhere/c\.txt"),
        ({"ytdlp": {"cookiesfrombrowser": ["netscape"]}}, r"yt-dlp refuses these options: .*netscape"),
        ({"extractors": ("nowhere.at_all:SomeIE",)}, r"nowhere\.at_all cannot be imported here"),
        ({"extractors": (f"{MODULE}:LoopbackIE",)}, r"no yt-dlp extractor LoopbackIE \(did you mean LoopbackSiteIE\?"),
    ],
)
def test_what_ytdlp_does_not_know_is_named_with_what_it_does(options: dict, words: str):
    with pytest.raises(RecipeError, match=words):
        check_ytdlp(FetchOptions(**options))


def test_what_it_knows_passes(tmp_path: Path):
    jar = tmp_path / "cookies.txt"
    jar.write_text("# Netscape HTTP Cookie File\n")
    told = {"cookiefile": str(jar), "proxy": "socks5h://h:1", "http_headers": {"User-Agent": "x"}, "ratelimit": 1e6}
    more = {"extractor_args": {"youtube": {"player_client": ["web"]}}, "concurrent_fragment_downloads": 3}
    check_ytdlp(FetchOptions(ytdlp=told | more, extractors=(EXTRACTOR,)))
    check_ytdlp(FetchOptions(ytdlp={"source_address": "127.0.0.1"}))
    elsewhere = {"cookiefile": "/on/the/workers.txt", "source_address": "192.0.2.7"}
    check_ytdlp(FetchOptions(ytdlp=elsewhere), files_are_here=False)


@pytest.mark.parametrize(
    "name",
    [
        *("print_to_file", "netrc_cmd", "post_hooks", "progress_hooks", "postprocessor_hooks", "cachedir", "test"),
        *("dump_intermediate_pages", "keep_fragments", "listformats", "max_downloads", "external_downloader_args"),
        *("ignore_no_formats_error", "allow_unplayable_formats", "mark_watched", "break_on_existing", "forceprint"),
    ],
)
def test_options_that_write_run_or_change_what_is_fetched_are_refused(name: str, tmp_path: Path):
    options = FetchOptions(ytdlp={name: {"video": [["%(id)s", str(tmp_path / "out")]]}})
    with pytest.raises(RecipeError, match=rf"'{name}' is not allowed.*cookiefile"):
        check_ytdlp(options)
    # A build checks first; whoever fetches without one is refused as well.
    with pytest.raises(RecipeError, match=rf"'{name}' is not allowed"):
        ytdlp_params(options)


def test_every_allowed_option_is_one_of_the_installed_ytdlp():
    assert _known_options() >= ALLOWED_YTDLP_OPTIONS
    assert not ALLOWED_YTDLP_OPTIONS & OWNED_YTDLP_OPTIONS


def test_a_recipe_names_a_runtime_and_no_program():
    check_ytdlp(FetchOptions(ytdlp={"js_runtimes": {"node": {}}}))
    with pytest.raises(RecipeError, match="names no program"):
        check_ytdlp(FetchOptions(ytdlp={"js_runtimes": {"node": {"path": "/tmp/x.sh"}}}))


def test_a_password_in_the_wrong_type_is_not_repeated():
    with pytest.raises(RecipeError, match=r"password wants text, not a int") as refused:
        check_ytdlp(FetchOptions(ytdlp={"password": 12345678}))
    assert "1234" not in str(refused.value)


def test_a_rate_of_a_site_that_nobody_knows_is_a_slip():
    check_site_names(["youtube", "bilibili", "loopbacksite", "media.example.org", "localhost:80"], [EXTRACTOR])
    with pytest.raises(RecipeError, match=r"no site youtub \(did you mean youtube"):
        check_site_names(["youtub"])


def test_a_build_asks_before_it_writes_anything(tmp_path: Path):
    write_manifest([Clip(id="c", source="s:c", dataset="d", url="http://h/a.mp4")], tmp_path / "l.parquet")
    recipe = load_corpus_recipe("folder", ("download.ytdlp={proxi: x}",))
    with pytest.raises(RecipeError, match="did you mean proxy"):
        build(recipe, str(tmp_path / "l.parquet"), str(tmp_path / "corpus"), only=["download"], progress=False)
    assert not (tmp_path / "corpus").exists()
