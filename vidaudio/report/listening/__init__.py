"""Listening tests: one page for the listeners, one key for the experimenter, one table for the paper.

`make_page` turns folders of sounds into a self-contained HTML page that does not contain the systems' names. Listeners
send back the files that the page saves; `tally` evaluates them with the key.
"""

from vidaudio.report.listening.items import Item, read_items
from vidaudio.report.listening.page import MadePage, PageText, make_page
from vidaudio.report.listening.scores import Tally
from vidaudio.report.listening.study import Key, Kind
from vidaudio.report.listening.tally import tally

__all__ = ["Item", "Key", "Kind", "MadePage", "PageText", "Tally", "make_page", "read_items", "tally"]
