"""From a file to the frames and samples of a clip, exact to the sample."""
