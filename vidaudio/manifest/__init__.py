"""Manifests: lists of videos, read from the formats in which they are published into one table.

The reader of each format returns a `Listing`. `join_media` or `fill_template` adds where the media is. `write_manifest`
stores the clips, and `read_manifest` reads and checks them.
"""

from vidaudio.manifest.audiocaps import read_audiocaps
from vidaudio.manifest.audioset import read_audioset
from vidaudio.manifest.clip import CLIP_ID, Clip
from vidaudio.manifest.clipsep import read_clipsep
from vidaudio.manifest.describe import ManifestSummary, describe_manifest
from vidaudio.manifest.esc import read_esc
from vidaudio.manifest.folder import read_folder
from vidaudio.manifest.join import MediaJoin, join_media, write_join_report
from vidaudio.manifest.music import read_music
from vidaudio.manifest.rows import BadRow, Listing, Place, shown_rows
from vidaudio.manifest.schema import SCHEMA, clips_from_table, table_from_clips
from vidaudio.manifest.store import read_manifest, write_manifest
from vidaudio.manifest.table import TableOptions, read_table
from vidaudio.manifest.template import fill_template, is_template
from vidaudio.manifest.vggsound import read_vggsound
from vidaudio.manifest.webdataset import read_webdataset

__all__ = [
    "CLIP_ID",
    "SCHEMA",
    "BadRow",
    "Clip",
    "Listing",
    "ManifestSummary",
    "MediaJoin",
    "Place",
    "TableOptions",
    "clips_from_table",
    "describe_manifest",
    "fill_template",
    "is_template",
    "join_media",
    "read_audiocaps",
    "read_audioset",
    "read_clipsep",
    "read_esc",
    "read_folder",
    "read_manifest",
    "read_music",
    "read_table",
    "read_vggsound",
    "read_webdataset",
    "shown_rows",
    "table_from_clips",
    "write_join_report",
    "write_manifest",
]
