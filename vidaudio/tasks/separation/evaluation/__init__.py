"""Evaluation that is comparable with the papers: protocols, pairs, estimates, scores, tables, sounds.

`vidaudio.tasks.separation.evaluate` is the entry point; each module here has one purpose.
"""
