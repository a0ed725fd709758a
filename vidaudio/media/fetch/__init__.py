"""Fetching of one source at a time: from a URL to a local file, through yt-dlp, within limits."""
