"""What yt-dlp, servers and disks say lands in its reason, and what people read holds no secrets."""

from __future__ import annotations

import errno
import importlib.util
import re
from pathlib import Path

import pytest
from yt_dlp.utils import ContentTooShortError, DownloadError, ExtractorError, GeoRestrictedError, UnsupportedError

from vidaudio.media.fetch.reasons import STATUSES, _of_status, failure, first_line, reason_of
from vidaudio.media.fetch.ytdlp_warnings import HeardWarnings
from vidaudio.media.outcomes import Reason

YTDLP = Path(importlib.util.find_spec("yt_dlp").origin).parent

# Verbatim from the installed yt-dlp, by file: message and reason. YouTube, then two and more other sites.
QUOTED = {
    "extractor/youtube/_video.py": [
        ("This video does not exist.", Reason.NOT_FOUND),
        ("This video has been removed for violating YouTube", Reason.REMOVED),
        ("Private video", Reason.PRIVATE),
        ("confirm your age", Reason.AGE_RESTRICTED),
        ("age-restricted", Reason.AGE_RESTRICTED),
        ("Video unavailable", Reason.REMOVED),
        ("The uploader has not made this video available in your country", Reason.GEO_BLOCKED),
        ("has been rate-limited by YouTube for up to an hour", Reason.RATE_LIMITED),
        ("This content isn't available, try again later", Reason.RATE_LIMITED),
        ("YouTube is requiring a captcha challenge before playback", Reason.BOT_CHECK),
        ("All player responses are invalid. Your IP is likely being blocked by Youtube", Reason.BOT_CHECK),
        ("Failed to extract any player response", Reason.UNKNOWN),
    ],
    "extractor/vimeo.py": [
        ("This video is protected by a password, use the --video-password option", Reason.PRIVATE),
        ("Wrong video password", Reason.PRIVATE),
        ("This event has not been made available to anyone", Reason.PRIVATE),
        ("Authentication may be needed due to your location.", Reason.GEO_BLOCKED),
        ("If you are using a data center IP or VPN/proxy, your IP may be blocked", Reason.BOT_CHECK),
        ("This request has been blocked due to its TLS fingerprint", Reason.BOT_CHECK),
        ("This live event is scheduled for ", Reason.LIVE),
        ("This event video is unavailable", Reason.REMOVED),
    ],
    "extractor/bilibili.py": [
        ("This video is for premium members only", Reason.MEMBERS_ONLY),
        ("This is a supporter-only video: ", Reason.MEMBERS_ONLY),
        ("You need to purchase the course to download this episode", Reason.MEMBERS_ONLY),
        ("You have exceeded the rate limit. Try again later", Reason.RATE_LIMITED),
        ("Request is blocked by server (412), please wait and try later.", Reason.BOT_CHECK),
        ("Request is rejected by server (352)", Reason.BOT_CHECK),
        ("This video may be deleted or geo-restricted.", Reason.GEO_BLOCKED),
        ("Streamer is not live", Reason.LIVE),
        ("Playlist is no longer available", Reason.REMOVED),
    ],
    "extractor/twitter.py": [
        ("This content is no longer available.", Reason.REMOVED),
        ("Broadcast no longer exists", Reason.NOT_FOUND),
        ("Twitter Space not found", Reason.NOT_FOUND),
        ("Twitter Space not started yet", Reason.LIVE),
        ("Twitter Space ended and replay is disabled", Reason.LIVE),
        ("This live broadcast has not yet started", Reason.LIVE),
        ("No video could be found in this tweet", Reason.NO_VIDEO),
    ],
    "extractor/tiktok.py": [
        ("Your IP address is blocked from accessing this post", Reason.BOT_CHECK),
        ("You do not have permission to view this post. Log into an account that has access", Reason.PRIVATE),
        ("account is private. Log into an account that has access", Reason.PRIVATE),
        ("Video not available, status code ", Reason.REMOVED),
        ("This livestream has ended", Reason.LIVE),
    ],
    "extractor/instagram.py": [("There is no video in this post", Reason.NO_VIDEO)],
    "extractor/generic.py": [("Got HTTP Error 403 caused by Cloudflare anti-bot challenge", Reason.BOT_CHECK)],
    "extractor/common.py": [
        ("This video is only available for registered users", Reason.PRIVATE),
        ("to provide account credentials", Reason.PRIVATE),
        ("for the authentication", Reason.PRIVATE),
        ("This video is not available from your location due to geo restriction", Reason.GEO_BLOCKED),
        ("Access to this webpage has been blocked by decision of the Russian government.", Reason.GEO_BLOCKED),
        ("This video is DRM protected", Reason.UNSUPPORTED),
        ("A network error has occurred.", Reason.NETWORK),
        ("An extractor error has occurred.", Reason.UNKNOWN),
    ],
    "utils/_utils.py": [("The channel is not currently live", Reason.LIVE)],
    "downloader/http.py": [("Did not get any data blocks", Reason.CORRUPT_FETCHED)],
    "downloader/external.py": [("m3u8 download detected but ffmpeg could not be found", Reason.UNSUPPORTED)],
}

# What YouTube's servers say; yt-dlp passes it on.
SPOKEN = [
    ("Sign in to confirm you’re not a bot. Use --cookies-from-browser", Reason.BOT_CHECK),
    ("Sign in to confirm your age. This video may be inappropriate for some users.", Reason.AGE_RESTRICTED),
    ("Private video. Sign in if you've been granted access to this video", Reason.PRIVATE),
    ("Video unavailable. This video is no longer available because the uploader has closed", Reason.REMOVED),
    (
        "Video unavailable. This video is no longer available due to a copyright claim by X",
        Reason.COPYRIGHT,
    ),
    (
        "Video unavailable. X, who has blocked it in your country on copyright grounds",
        Reason.GEO_BLOCKED,
    ),
    ("Join this channel to get access to members-only content like this video", Reason.MEMBERS_ONLY),
    ("This video is available to this channel's members on level: A", Reason.MEMBERS_ONLY),
    ("This live event will begin in 3 hours.", Reason.LIVE),
    ("Premieres in 20 minutes", Reason.LIVE),
    ("Please sign in. Use --cookies-from-browser or --cookies for the authentication", Reason.BOT_CHECK),
    ("The page needs to be reloaded.", Reason.BOT_CHECK),
    ("This video is only available to Music Premium members", Reason.MEMBERS_ONLY),
    ("This video requires payment to watch.", Reason.MEMBERS_ONLY),
    ("This video isn't available anymore", Reason.REMOVED),
    ("This video has been removed by the uploader", Reason.REMOVED),
    (
        "This video is no longer available because the YouTube account associated with this video has been terminated",
        Reason.REMOVED,
    ),
    ("Video unavailable. This content isn’t available.", Reason.BOT_CHECK),
    ("Video unavailable. Playback on other websites has been disabled by the video owner", Reason.UNSUPPORTED),
    ("The following content is not available on this app. Watch on the latest version of YouTube.", Reason.UNKNOWN),
    ("Something nobody has said before", Reason.UNKNOWN),
    # In the account's language.
    ("Video nicht verfügbar", Reason.REMOVED),
    ("Video nicht verfügbar. Dieser Inhalt ist nicht verfügbar.", Reason.BOT_CHECK),
    ("Melde dich an, um zu bestätigen, dass du kein Bot bist", Reason.BOT_CHECK),
    ("Melde dich an, um dein Alter zu bestätigen", Reason.AGE_RESTRICTED),
    ("Dieses Video enthält Inhalte von X, der sie aus urheberrechtlichen Gründen in deinem Land", Reason.GEO_BLOCKED),
    ("Cette vidéo n’est pas disponible dans votre pays", Reason.GEO_BLOCKED),
    ("Cette vidéo n’est\u00a0plus disponible", Reason.REMOVED),
    ("Vidéo non disponible. Ce contenu n’est pas disponible.", Reason.BOT_CHECK),
    ("Videoen er ikke tilgængelig. Dette indhold er ikke tilgængeligt.", Reason.BOT_CHECK),
    ("A videó nem áll rendelkezésre. Ez a tartalom nem áll rendelkezésre.", Reason.BOT_CHECK),
    ("תוכן זה אינו זמין", Reason.BOT_CHECK),
    (
        "Video unavailable. This video is restricted. Please check the Google Workspace administrator and/or the "
        "network administrator restrictions.",
        Reason.BOT_CHECK,
    ),
    ("O proprietário do vídeo desativou a reprodução em outros websites", Reason.UNSUPPORTED),
    ("De eigenaar van de video heeft afspelen op andere websites uitgeschakeld", Reason.UNSUPPORTED),
    ("Właściciel filmu wyłączył odtwarzanie na innych stronach", Reason.UNSUPPORTED),
    ("Video sahibi, videonun diğer web sitelerinde oynatılmasını devre dışı bıraktı", Reason.UNSUPPORTED),
    ("视频所有者已禁止在其他网站上播放此视频", Reason.UNSUPPORTED),
    ("この動画の所有者は、他のウェブサイトで再生できないように設定しています", Reason.UNSUPPORTED),
    ("Chủ sở hữu video đã tắt tính năng phát trên các trang web khác", Reason.UNSUPPORTED),
    ("Pemilik video telah menonaktifkan pemutaran di situs lain", Reason.UNSUPPORTED),
    ("قام مالك الفيديو بإيقاف تشغيله على مواقع الويب الأخرى", Reason.UNSUPPORTED),
    ("Video no disponible. Este video es privado", Reason.PRIVATE),
    ("Vídeo indisponível", Reason.REMOVED),
    ("Este vídeo é particular", Reason.PRIVATE),
    ("Este conteúdo não está disponível. Tente novamente mais tarde.", Reason.RATE_LIMITED),
    ("Video non disponibile", Reason.REMOVED),
    ("Ten film jest dostępny dla użytkowników premium", Reason.MEMBERS_ONLY),
    ("Войдите, чтобы подтвердить, что вы не бот", Reason.BOT_CHECK),
    ("Видео недоступно", Reason.REMOVED),
    ("この動画は非公開です", Reason.PRIVATE),
    ("この動画はお住まいの国では公開されていません", Reason.GEO_BLOCKED),
    ("この動画は再生できません", Reason.REMOVED),
    ("동영상을 재생할 수 없음", Reason.REMOVED),
    ("视频不可用", Reason.REMOVED),
    ("此影片包含 X 的內容，因版權問題遭到封鎖", Reason.COPYRIGHT),
]


@pytest.mark.parametrize("file", QUOTED)
def test_messages_of_the_installed_ytdlp(file: str):
    source = (YTDLP / file).read_text(encoding="utf-8").replace("\\'", "'")
    assert [message for message, _ in QUOTED[file] if message not in source] == [], "yt-dlp no longer says so"
    found = {message: reason_of(DownloadError(f"ERROR: [site] abc: {message}")) for message, _ in QUOTED[file]}
    assert found == dict(QUOTED[file])


def test_words_that_stand_for_every_reason_a_site_can_give():
    """What a site cannot say is what only the file or this machine shows."""
    said = {reason for messages in QUOTED.values() for _, reason in messages} | {reason for _, reason in SPOKEN}
    assert set(Reason) - said == {
        *(Reason.NO_AUDIO, Reason.TOO_SHORT, Reason.CORRUPT, Reason.CRASH),
        *(Reason.TIMEOUT, Reason.SERVER_ERROR, Reason.DISK, Reason.MEMORY, Reason.TOO_LARGE),
    }


@pytest.mark.parametrize(("message", "reason"), SPOKEN)
def test_messages_of_sites(message: str, reason: Reason):
    assert reason_of(ExtractorError(message, expected=True)) is reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("unable to download video data: HTTP Error 403: Forbidden", Reason.BOT_CHECK),
        ("[site] abc: Unable to download webpage: HTTP Error 403: Forbidden", Reason.PRIVATE),
        ("Unable to download webpage: HTTP Error 404: Not Found", Reason.NOT_FOUND),
        ("Unable to download webpage: HTTP Error 410: Gone", Reason.NOT_FOUND),
        ("HTTP Error 429: Whatever", Reason.RATE_LIMITED),
        ("\r[download] Got error: HTTP Error 502: Bad Gateway. Giving up after 3 retries", Reason.SERVER_ERROR),
        ("HTTP Error 418: I'm a teapot", Reason.UNKNOWN),
        ("[download] Got error: 100 bytes read, 50 more expected. Giving up after 3 retries", Reason.NETWORK),
        ("Connection to h timed out. (connect timeout=20.0)", Reason.TIMEOUT),
        ("unable to write data: [Errno 28] No space left on device", Reason.DISK),
    ],
)
def test_http_network_and_disk_by_words(text: str, reason: Reason):
    assert reason_of(DownloadError(f"ERROR: {text}")) is reason


def test_kinds_of_exceptions_decide_before_unknown_words():
    assert reason_of(GeoRestrictedError("Nope")) is Reason.GEO_BLOCKED
    assert reason_of(UnsupportedError("http://h/x")) is Reason.UNSUPPORTED
    assert reason_of(ContentTooShortError(10, 20)) is Reason.NETWORK
    assert reason_of(TimeoutError()) is Reason.TIMEOUT
    assert reason_of(ConnectionResetError(errno.ECONNRESET, "reset")) is Reason.NETWORK


def test_a_full_disk_is_found_behind_other_errors():
    error = DownloadError("something else", exc_info=(OSError, OSError(errno.ENOSPC, "no room"), None))
    assert reason_of(error) is Reason.DISK


def test_names_and_addresses_in_a_message_are_not_its_cause():
    text = "ERROR: [generic] private video copyright: Unable to download webpage: HTTP Error 404: Not Found"
    assert reason_of(DownloadError(text.replace(" video ", "-video-"))) is Reason.NOT_FOUND
    assert reason_of(DownloadError("ERROR: no answer from http://h/captcha?x=rate-limit")) is Reason.UNKNOWN


def test_the_message_is_one_clean_line_without_secrets_or_local_paths():
    text = (
        "\x1b[0;31mERROR:\x1b[0m [site] abc: Unable to download https://user:pw@h.org/v.mp4?token=SECRET from "
        "'/tmp/xyz/.fetching-1/track-1.mp4.part' (caused by <HTTPError 404>); please report this issue on x\n"
        "second line"
    )
    line = first_line(text)
    assert line == "[site] abc: Unable to download https://h.org from 'track-1.mp4.part'"
    assert (
        first_line("HTTPConnection(host='h'): <x.Y object at 0x7f00>: refused") == "HTTPConnection(host='h'): refused"
    )


def test_errors_of_extractors_themselves_are_named():
    assert failure(KeyError("formats")).message == "KeyError: 'formats'"
    assert failure(KeyError("formats")).reason is Reason.UNKNOWN


def test_a_warning_that_names_the_cause_goes_into_the_message():
    heard = HeardWarnings()
    heard.add(
        "[youtube] No supported JavaScript runtime could be found. Only deno is enabled by default; to use another "
        "runtime add  --js-runtimes RUNTIME[:PATH]"
    )
    heard.add("[generic] Falling back on generic information extractor")
    heard.add(
        "[debug] [youtube] dQw4w9WgXcQ: Some web client https formats have been skipped as they are missing a URL. "
        "YouTube is forcing SABR streaming for this client. See  https://github.com/yt-dlp/yt-dlp/issues/12482"
    )
    outcome = failure(ExtractorError("Requested format is not available", expected=True), heard.causes())
    assert outcome.reason is Reason.UNKNOWN
    assert outcome.message == (
        "Requested format is not available; yt-dlp warned: No supported JavaScript runtime could be found. Only deno "
        "is enabled by default / Some web client https formats have been skipped as they are missing a URL. YouTube is "
        "forcing SABR streaming for this client"
    )
    heard.clear()
    assert heard.causes() == ""
    assert failure(ExtractorError("Private video"), "").message == "Private video"


def test_the_manual_has_the_reason_of_every_status():
    manual = (Path(__file__).parents[3] / "docs" / "corpus.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]*\d{3}[^|]*) \| `(\w+)` \|", manual.partition("| HTTP says |")[2], re.MULTILINE)
    told = {int(status): reason for statuses, reason in rows for status in re.findall(r"\b\d{3}\b", statuses)}
    asked = {status: _of_status(status, media_phase=False) for status in (*STATUSES, 403, 300, 399, 500, 599, 418)}
    asked[403] = told[403]  # told twice: of a page and of media
    assert told == asked
    of_403 = [reason for statuses, reason in rows if "403" in statuses]
    assert of_403 == [_of_status(403, media_phase=False).value, _of_status(403, media_phase=True).value]
