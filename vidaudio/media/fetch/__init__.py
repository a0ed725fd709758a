"""From a URL to a local file: one source at a time, through yt-dlp, within limits."""
