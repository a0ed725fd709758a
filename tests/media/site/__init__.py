"""A small video site on loopback: media that tell their own time, a server that counts, an extractor for yt-dlp."""
