"""Evaluation that can be compared with the papers: protocols, pairs, estimates, scores, tables, sounds.

`vidaudio.tasks.separation.evaluate` is the door; here is one idea a file.
"""
