"""Decoders that turn a media file into the frames and samples of a clip, exact to the sample."""
