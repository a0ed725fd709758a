"""Audio-visual correspondence: whether a clip's sound and its pictures belong together, and how sure that is.

Plain PyTorch and NumPy; nothing here knows files or corpora.
"""
